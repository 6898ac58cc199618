// Shows a run's log as it grows: numbered lines, their colours, a search, links to
// lines, and no more of them at once than a browser bears.
"use strict";
(() => {
  const root = document.getElementById("log");
  if (!root || !window.EventSource) return;
  const WINDOW = 5000, STEP = 1000, LONGEST = 20000;
  const list = root.querySelector("[data-lines]");
  const tools = root.querySelector("[data-tools]");
  const status = root.querySelector("[data-status]");
  const follow = root.querySelector("[data-follow]");
  const earlier = root.querySelector("[data-earlier]");
  const later = root.querySelector("[data-later]");
  const search = root.querySelector("#log-search");
  const url = root.dataset.url;
  let first = 0, last = 0; // the lines that are shown
  let source = null, pending = [], timer = 0, over = false, cut = false, wanted = null, current = null;

  const hostile = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
  const clean = (s) => s.replace(hostile, "\ufffd");

  // Colours come as SGR sequences; every other sequence is left out.
  const sequence = /\u001b(?:\[([0-9;:]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\^_])/g;
  function colour(into, text) {
    let at = 0, look = new Set();
    const put = (s) => {
      if (!s) return;
      const piece = document.createElement("span");
      piece.textContent = clean(s);
      if (look.size) piece.className = [...look].join(" ");
      into.append(piece);
    };
    for (const m of text.matchAll(sequence)) {
      put(text.slice(at, m.index));
      at = m.index + m[0].length;
      if (m[2] === "m") look = styled(look, m[1] || "0");
    }
    put(text.slice(at));
  }
  function styled(look, codes) {
    const next = new Set(look), all = codes.split(/[;:]/).map(Number);
    const fore = (name) => { for (const c of next) if (/^a-\d/.test(c)) next.delete(c); if (name) next.add(name); };
    for (let i = 0; i < all.length; i++) {
      const c = all[i];
      if (c === 0) next.clear();
      else if (c === 1) next.add("a-b");
      else if (c === 2) next.add("a-d");
      else if (c === 3) next.add("a-i");
      else if (c === 4) next.add("a-u");
      else if (c === 22) { next.delete("a-b"); next.delete("a-d"); }
      else if (c === 23) next.delete("a-i");
      else if (c === 24) next.delete("a-u");
      else if (c === 39) fore("");
      else if ((c >= 30 && c <= 37) || (c >= 90 && c <= 97)) fore("a-" + c);
      else if (c === 38 || c === 48) {
        if (all[i + 1] === 5 && c === 38 && all[i + 2] < 16) fore("a-" + (all[i + 2] < 8 ? 30 + all[i + 2] : 82 + all[i + 2]));
        i += all[i + 1] === 5 ? 2 : 4;
      }
    }
    return next;
  }

  function row(line) {
    const div = document.createElement("div"), number = document.createElement("a"),
      stage = document.createElement("span"), code = document.createElement("code");
    div.className = line.state ? "ln stage" : "ln";
    number.className = "n";
    if (line.n) {
      div.id = "L" + line.n;
      number.href = "#L" + line.n;
      number.textContent = line.n;
    }
    stage.className = "at";
    stage.textContent = clean(line.stage || "");
    if (line.at) stage.title = line.at;
    let text = line.text || "";
    if (line.state) text = "== " + line.state + (text ? ": " + text : "");
    if (text.length > LONGEST) text = text.slice(0, LONGEST) + " … (longer: see all of it as text)";
    colour(code, text);
    div.append(number, stage, code);
    mark(div);
    return div;
  }

  const rows = () => list.querySelectorAll(".ln");
  const numberOf = (div) => Number(div.id.slice(1)) || 0;
  function bounds() {
    const all = [...rows()].filter((d) => d.id);
    first = all.length ? numberOf(all[0]) : 0;
    last = all.length ? numberOf(all[all.length - 1]) : last;
    earlier.hidden = first <= 1;
    later.hidden = !cut;
  }

  function flush() {
    timer = 0;
    const lines = pending;
    pending = [];
    if (!lines.length) return;
    list.querySelector("p")?.remove();
    const part = document.createDocumentFragment();
    for (const l of lines.slice(-WINDOW)) part.append(row(l));
    if (lines.length > WINDOW) list.replaceChildren(part); else list.append(part);
    const keep = list.scrollHeight - list.scrollTop;
    const all = rows();
    let gone = false;
    for (let i = 0; i < all.length - WINDOW; i++) { all[i].remove(); gone = true; }
    if (following()) list.scrollTop = list.scrollHeight;
    else if (gone) list.scrollTop = list.scrollHeight - keep;
    bounds();
    if (wanted) jump();
  }
  function add(line) {
    if (line.n && line.n <= last) return;
    if (line.n) last = line.n;
    pending.push(line);
    if (pending.length > 2 * WINDOW) pending = pending.slice(-WINDOW);
    timer = timer || setTimeout(flush, 60);
  }

  function open(from, tail) {
    source?.close();
    cut = false;
    source = new EventSource(url + (tail ? "?tail=" + tail : "?from=" + from));
    source.addEventListener("line", (e) => add(JSON.parse(e.data)));
    source.addEventListener("end", (e) => {
      source.close();
      source = null;
      over = true;
      const end = JSON.parse(e.data);
      flush();
      status.textContent = "The run has ended: " + clean(end.state.replaceAll("_", " ")) + ".";
    });
    source.onopen = () => { if (!over) status.textContent = ""; };
    source.onerror = () => {
      if (!source) return;
      status.textContent = source.readyState === EventSource.CLOSED ? "The log cannot be read now. Load the page again." : "The connection was lost; trying again.";
    };
  }

  // What is there of the lines from one to another, or null.
  function part(from, to, then) {
    const s = new EventSource(url + "?from=" + from + "&to=" + to), got = [];
    s.addEventListener("line", (e) => got.push(JSON.parse(e.data)));
    s.addEventListener("part", () => { s.close(); then(got); });
    s.onerror = () => { s.close(); status.textContent = "These lines cannot be read now."; then(null); };
  }
  function leave() {
    source?.close();
    source = null;
    pending = [];
    cut = true;
  }
  // The stream goes on where all lines up to the end are shown.
  function joins(got, to) {
    if (got.length && got[got.length - 1].n >= to) bounds(); else open(last + 1);
  }

  // Earlier lines push those at the end out of the window; the stream is closed
  // then, until somebody asks for later ones.
  function loadEarlier() {
    const until = first - 1, from = Math.max(1, first - STEP);
    if (until < 1) return;
    earlier.disabled = true;
    part(from, until, (got) => {
      earlier.disabled = false;
      if (!got || first !== until + 1) return;
      const rest = document.createDocumentFragment();
      for (const l of got) rest.append(row(l));
      const keep = list.scrollHeight - list.scrollTop;
      list.prepend(rest);
      list.scrollTop = list.scrollHeight - keep;
      const all = rows();
      if (all.length > WINDOW) leave();
      for (let i = WINDOW; i < all.length; i++) all[i].remove();
      bounds();
    });
  }
  function loadLater() {
    const from = last + 1, to = last + STEP;
    later.disabled = true;
    part(from, to, (got) => {
      later.disabled = false;
      if (!got || last !== from - 1) return;
      const rest = document.createDocumentFragment();
      for (const l of got) rest.append(row(l));
      const all = rows(), at = list.scrollHeight - list.scrollTop;
      const gone = Math.max(0, all.length + got.length - WINDOW);
      for (let i = 0; i < gone; i++) all[i].remove();
      if (gone) list.scrollTop = list.scrollHeight - at;
      list.append(rest);
      bounds();
      joins(got, to);
    });
  }
  // The lines around one take the place of those that are shown.
  function show(n, then) {
    const from = Math.max(1, n - STEP / 2), to = from + STEP - 1;
    leave();
    setFollow(false);
    part(from, to, (got) => {
      if (!got) return;
      list.replaceChildren(...got.map(row));
      last = got.length ? got[got.length - 1].n : from - 1;
      bounds();
      joins(got, to);
      const there = document.getElementById("L" + n);
      there?.scrollIntoView({ block: "center" });
      then?.(there);
    });
  }
  function showEnd() {
    leave();
    list.replaceChildren();
    last = 0;
    open(0, STEP);
  }

  const following = () => follow.getAttribute("aria-pressed") === "true";
  function setFollow(on) {
    follow.setAttribute("aria-pressed", String(on));
    if (!on) return;
    if (cut) showEnd();
    list.scrollTop = list.scrollHeight;
  }

  // #L120, or #L120-L130, is what a link to lines says.
  function hash() {
    const m = /^#L(\d{1,15})(?:-L?(\d{1,15}))?$/.exec(location.hash);
    return m ? [Math.min(+m[1], +(m[2] || m[1])), Math.max(+m[1], +(m[2] || m[1]))] : null;
  }
  function mark(div) {
    const r = hash(), n = numberOf(div), word = search.value.trim().toLowerCase();
    div.classList.toggle("hit", !!r && n >= r[0] && n <= r[1]);
    div.classList.toggle("match", !!word && div.lastChild.textContent.toLowerCase().includes(word));
  }
  function jump() {
    const r = wanted || hash();
    if (!r) return;
    const there = document.getElementById("L" + r[0]);
    if (there) {
      wanted = null;
      setFollow(false);
      there.scrollIntoView({ block: "center" });
    } else if (first && (r[0] < first || (cut && r[0] > last))) {
      wanted = null;
      show(r[0]);
    } else {
      wanted = over ? null : r;
    }
  }
  addEventListener("hashchange", () => { for (const d of rows()) mark(d); wanted = null; jump(); });
  list.addEventListener("click", (e) => {
    const a = e.target.closest("a.n"), r = hash();
    if (!a || !e.shiftKey || !r) return;
    e.preventDefault();
    const n = numberOf(a.parentElement);
    location.hash = "#L" + Math.min(n, r[0]) + "-L" + Math.max(n, r[0]);
  });

  function find(step) {
    const found = [...list.querySelectorAll(".ln.match")];
    if (!search.value.trim()) { status.textContent = ""; return; }
    if (!found.length) { status.textContent = "Nothing found in these lines."; return; }
    const i = (found.indexOf(current) + step + found.length) % found.length;
    current?.classList.remove("now");
    current = found[i];
    current.classList.add("now");
    setFollow(false);
    current.scrollIntoView({ block: "center" });
    status.textContent = (i + 1) + " of " + found.length + " lines";
  }

  // The service looks through the log, a bounded part at a time; another search
  // takes the place of one that is under way.
  let looking = 0, behind = 0;
  async function findAnywhere() {
    const text = search.value.trim(), mine = ++looking;
    let from = behind + 1, answer = { lines: [], next: from };
    while (text && !answer.lines.length && answer.next) {
      from = answer.next;
      status.textContent = "Searching from line " + from + " on …";
      try {
        const r = await fetch(url + "/search?" + new URLSearchParams({ text, from }));
        if (!r.ok) throw new Error(r.statusText);
        answer = await r.json();
      } catch {
        if (mine === looking) status.textContent = "The log cannot be searched now.";
        return;
      }
      if (mine !== looking) return;
    }
    if (!answer.lines.length) {
      status.textContent = !text ? "" : behind ? "Nothing found after line " + behind + "." : "Nothing found in the whole log.";
      behind = 0;
      return;
    }
    behind = answer.lines[0].n;
    const here = (div) => {
      current?.classList.remove("now");
      current = div;
      div?.classList.add("now");
      status.textContent = "Line " + behind;
    };
    const there = document.getElementById("L" + behind);
    if (!there) return show(behind, here);
    setFollow(false);
    there.scrollIntoView({ block: "center" });
    here(there);
  }
  root.querySelector("[data-all]").addEventListener("click", findAnywhere);

  search.addEventListener("input", () => {
    looking++;
    behind = 0;
    current?.classList.remove("now");
    current = null;
    for (const d of rows()) mark(d);
    find(1);
  });
  search.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); find(e.shiftKey ? -1 : 1); } });
  root.querySelector("[data-next]").addEventListener("click", () => find(1));
  follow.addEventListener("click", () => setFollow(!following()));
  earlier.addEventListener("click", () => { setFollow(false); loadEarlier(); });
  later.addEventListener("click", loadLater);
  list.addEventListener("scroll", () => {
    const end = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    if (following() && !end && !timer) follow.setAttribute("aria-pressed", "false");
  }, { passive: true });

  // What the server drew is drawn again, with its colours.
  const begin = Number(root.dataset.first) || 1;
  tools.hidden = false;
  status.textContent = "";
  list.replaceChildren();
  last = begin - 1;
  wanted = hash();
  if (wanted && wanted[0] < begin) {
    const n = wanted[0];
    wanted = null;
    show(n);
  } else open(last + 1);
})();
