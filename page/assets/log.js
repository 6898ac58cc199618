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

  function open(from) {
    source?.close();
    cut = false;
    source = new EventSource(url + "?from=" + from);
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

  // Earlier lines push those at the end out of the window; the stream is closed
  // then, until somebody asks for later ones.
  function loadEarlier(from, then) {
    const until = first, got = [];
    from = Math.max(1, from);
    if (from >= until) return;
    earlier.disabled = true;
    const s = new EventSource(url + "?from=" + from);
    const done = () => {
      s.close();
      earlier.disabled = false;
      const part = document.createDocumentFragment();
      for (const l of got) part.append(row(l));
      const keep = list.scrollHeight - list.scrollTop;
      list.prepend(part);
      list.scrollTop = list.scrollHeight - keep;
      const all = rows();
      if (all.length > WINDOW) {
        source?.close();
        source = null;
        pending = [];
        for (let i = WINDOW; i < all.length; i++) all[i].remove();
        cut = true;
      }
      bounds();
      then?.();
    };
    s.addEventListener("line", (e) => {
      const l = JSON.parse(e.data);
      if (l.n < until && got.length < WINDOW) got.push(l); else if (l.n >= until) done();
    });
    s.addEventListener("end", done);
    s.onerror = () => { s.close(); earlier.disabled = false; status.textContent = "Earlier lines cannot be read now."; };
  }

  const following = () => follow.getAttribute("aria-pressed") === "true";
  function setFollow(on) {
    follow.setAttribute("aria-pressed", String(on));
    if (!on) return;
    if (cut) open(last + 1);
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
    } else if (first && r[0] < first && !earlier.disabled && first - r[0] < WINDOW) {
      wanted = r;
      loadEarlier(r[0] - 20, jump);
    } else if (first && r[0] < first) {
      list.replaceChildren();
      first = last = 0;
      pending = [];
      wanted = r;
      last = Math.max(0, r[0] - 21);
      open(last + 1);
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
  search.addEventListener("input", () => {
    current?.classList.remove("now");
    current = null;
    for (const d of rows()) mark(d);
    find(1);
  });
  search.addEventListener("keydown", (e) => { if (e.key === "Enter") { e.preventDefault(); find(e.shiftKey ? -1 : 1); } });
  root.querySelector("[data-next]").addEventListener("click", () => find(1));
  follow.addEventListener("click", () => setFollow(!following()));
  earlier.addEventListener("click", () => { setFollow(false); loadEarlier(first - STEP); });
  later.addEventListener("click", () => open(last + 1));
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
  if (wanted && wanted[0] < begin) last = Math.max(0, wanted[0] - 21);
  open(last + 1);
})();
