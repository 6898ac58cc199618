package notify

import "strings"

// slackElement is a part of a rich text: its text is never read as markup, nor as
// the name of somebody to call.
type slackElement struct {
	Type     string         `json:"type"`
	Text     string         `json:"text,omitempty"`
	URL      string         `json:"url,omitempty"`
	Style    any            `json:"style,omitempty"`
	Elements []slackElement `json:"elements,omitempty"`
}

type slackMessage struct {
	Text        string         `json:"text"` // for notifications, and for what takes no blocks
	Blocks      []slackElement `json:"blocks"`
	UnfurlLinks bool           `json:"unfurl_links"`
	UnfurlMedia bool           `json:"unfurl_media"`
	LinkNames   bool           `json:"link_names"`
	Parse       string         `json:"parse"`
}

func slackBody(m message) slackMessage {
	text := func(s string, bold bool) slackElement {
		e := slackElement{Type: "text", Text: s}
		if bold {
			e.Style = map[string]bool{"bold": true}
		}
		return e
	}
	section := func(parts ...slackElement) slackElement {
		return slackElement{Type: "rich_text_section", Elements: parts}
	}
	var elements, items []slackElement
	var plain []string
	if m.title != "" {
		elements = append(elements, section(text(m.title, true)))
		plain = append(plain, m.title)
	}
	for _, l := range m.lines {
		parts := []slackElement{text(l.text, false)}
		if l.url != "" {
			parts = append(parts, text(" ", false), slackElement{Type: "link", URL: l.url, Text: l.run})
		}
		items = append(items, section(parts...))
		plain = append(plain, strings.TrimSpace(l.text+" "+l.url))
	}
	if m.more > 0 {
		items = append(items, section(text(m.rest(), false)))
		plain = append(plain, m.rest())
	}
	if m.title != "" {
		elements = append(elements, slackElement{Type: "rich_text_list", Style: "bullet", Elements: items})
	} else {
		elements = append(elements, items...)
	}
	return slackMessage{Text: slackText(strings.Join(plain, "\n")), Parse: "none",
		Blocks: []slackElement{{Type: "rich_text", Elements: elements}}}
}
