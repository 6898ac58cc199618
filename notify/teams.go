package notify

// longestTeams is how many bytes a message may have: Teams takes 28 KB.
const longestTeams = 24 << 10

// teamsRun is text that Teams shows as it is: Markdown in it is not read, and
// nobody is called without an entity of the message that says so.
type teamsRun struct {
	Type         string       `json:"type"`
	Text         string       `json:"text"`
	Weight       string       `json:"weight,omitempty"`
	SelectAction *teamsAction `json:"selectAction,omitempty"`
}

type teamsAction struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

type teamsBlock struct {
	Type    string     `json:"type"`
	Inlines []teamsRun `json:"inlines"`
}

// teamsBody is an Adaptive Card, as workflows that begin with a webhook post it.
func teamsBody(m message) any {
	run := func(text string) teamsRun { return teamsRun{Type: "TextRun", Text: text} }
	block := func(runs ...teamsRun) teamsBlock { return teamsBlock{Type: "RichTextBlock", Inlines: runs} }
	var body []teamsBlock
	if m.title != "" {
		title := run(m.title)
		title.Weight = "bolder"
		body = append(body, block(title))
	}
	size := 0
	for i, l := range m.lines {
		if size += len(l.text) + len(l.url) + 300; size > longestTeams {
			m.more += len(m.lines) - i
			break
		}
		runs := []teamsRun{run(l.text)}
		if l.url != "" {
			link := run(l.run)
			link.SelectAction = &teamsAction{Type: "Action.OpenUrl", URL: l.url}
			runs = append(runs, run(" "), link)
		}
		body = append(body, block(runs...))
	}
	if m.more > 0 {
		body = append(body, block(run(m.rest())))
	}
	return map[string]any{"type": "message", "attachments": []any{map[string]any{
		"contentType": "application/vnd.microsoft.card.adaptive",
		"content": map[string]any{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
			"msteams": map[string]string{"width": "Full"}, "body": body},
	}}}
}
