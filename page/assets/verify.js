// Verifies the audit log in the browser: reads every entry, computes the RFC 6962
// root anew, and holds it and the key's signature against a checkpoint.
"use strict";
(() => {
  const root = document.getElementById("verify");
  if (!root) return;
  if (!window.crypto?.subtle) {
    root.querySelector("[data-unable]").hidden = false;
    return;
  }
  const tools = root.querySelectorAll("[data-tools]"), start = root.querySelector("[data-start]"),
    progress = root.querySelector("progress"), verdict = root.querySelector("[data-verdict]"),
    steps = root.querySelector("[data-steps]"), kept = root.querySelector("#kept");
  const text = new TextEncoder();
  const sha = async (...parts) => {
    const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
    let at = 0;
    for (const p of parts) { all.set(p, at); at += p.length; }
    return new Uint8Array(await crypto.subtle.digest("SHA-256", all));
  };
  const bytes = (s) => Uint8Array.from(atob(s), (c) => c.charCodeAt(0));
  const base64 = (b) => btoa(String.fromCharCode(...b));
  const ZERO = new Uint8Array([0]), ONE = new Uint8Array([1]);

  // The roots of the full trees that the entries so far fall into, the largest first.
  class Tree {
    constructor() { this.size = 0; this.peaks = []; }
    async add(leaf) {
      let hash = await sha(ZERO, text.encode(leaf)), n = this.size++;
      for (; n & 1; n = Math.floor(n / 2)) hash = await sha(ONE, this.peaks.pop(), hash);
      this.peaks.push(hash);
    }
    async root() {
      if (!this.peaks.length) return sha();
      let hash = this.peaks[this.peaks.length - 1];
      for (let i = this.peaks.length - 2; i >= 0; i--) hash = await sha(ONE, this.peaks[i], hash);
      return hash;
    }
  }

  function parse(note) {
    note = note.replaceAll("\r\n", "\n");
    if (!note.endsWith("\n")) note += "\n";
    const cut = note.indexOf("\n\n");
    const body = note.slice(0, cut + 1), lines = body.split("\n");
    if (cut < 0 || lines.length < 4 || !/^\d{1,15}$/.test(lines[1])) throw new Error("that is no checkpoint: it begins with a name, a size and a root, and ends with signatures");
    const signatures = [...note.slice(cut + 2).matchAll(/^\u2014 (\S+) (\S+)$/gm)].map((m) => ({ name: m[1], data: bytes(m[2]) }));
    return { body, origin: lines[0], size: Number(lines[1]), root: lines[2], signatures };
  }

  // "yes", "no", or why this browser cannot tell.
  async function signed(c, keys) {
    for (const k of keys) {
      const m = /^(.+)\+([0-9a-f]{8})\+(.+)$/.exec(k);
      if (!m) continue;
      const key = bytes(m[3]), id = (await sha(text.encode(m[1] + "\n"), key)).slice(0, 4);
      const s = c.signatures.find((x) => x.name === m[1] && x.data.length === 68 && id.every((b, i) => b === x.data[i]));
      if (!s || key[0] !== 1 || key.length !== 33) continue;
      let pub;
      try { pub = await crypto.subtle.importKey("raw", key.slice(1), { name: "Ed25519" }, false, ["verify"]); } catch { return "this browser has no Ed25519"; }
      return await crypto.subtle.verify({ name: "Ed25519" }, pub, s.data.slice(4), text.encode(c.body)) ? "yes" : "no";
    }
    return "no";
  }

  const say = (good, what) => {
    const li = document.createElement("li");
    li.className = good === null ? "wait" : good ? "good" : "bad";
    li.textContent = (good === null ? "Not checked: " : good ? "Right: " : "WRONG: ") + what;
    steps.append(li);
    return good !== false;
  };

  async function verify() {
    steps.replaceChildren();
    verdict.className = "verdict";
    verdict.textContent = "Reading the log …";
    progress.hidden = false;
    const keys = [...root.querySelectorAll("[data-key]")].map((k) => k.textContent);
    const shown = root.querySelector("[data-note]"), marks = [];
    if (shown) marks.push(["the service's checkpoint", parse(shown.textContent)]);
    else marks.push(["the service's head", { size: Number(root.dataset.size), root: root.dataset.root, signatures: null }]);
    if (kept.value.trim()) marks.push(["your checkpoint", parse(kept.value.trim())]);
    const until = Math.max(...marks.map((m) => m[1].size)), tree = new Tree(), roots = new Map();
    const sizes = new Set(marks.map((m) => m[1].size));
    if (sizes.has(0)) roots.set(0, base64(await tree.root()));
    reading: while (tree.size < until) {
      const answer = await fetch("/api/v1/audit?limit=500&after=" + tree.size, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error("the service answers " + answer.status + " at entry " + tree.size);
      const { entries } = await answer.json();
      if (!entries.length) break;
      for (const e of entries) {
        if (e.index !== tree.size) throw new Error("entry " + tree.size + " is missing: the next one is " + e.index);
        await tree.add(e.leaf);
        if (sizes.has(tree.size)) roots.set(tree.size, base64(await tree.root()));
        if (tree.size >= until) break reading;
      }
      progress.value = tree.size / until;
      verdict.textContent = "Read " + tree.size + " of " + until + " entries";
    }
    progress.value = 1;
    let good = true, whole = true;
    for (const [name, c] of marks) {
      const computed = roots.get(c.size);
      if (computed === undefined) good = say(false, name + " has " + c.size + " entries, the log only " + tree.size + ": it was shortened") && good;
      else good = say(computed === c.root, "the root of the first " + c.size + " entries is that of " + name) && good;
      if (!c.signatures) { say(null, "there is no signature"); whole = false; continue; }
      const by = await signed(c, keys);
      if (by === "yes" || by === "no") good = say(by === "yes", name + " is signed by a key of this log") && good;
      else { say(null, "the signature of " + name + ": " + by); whole = false; }
    }
    verdict.className = "verdict " + (good ? "good" : "bad");
    verdict.textContent = !good ? "NOT verified: see what is wrong." : "Verified: " + until + " entries" + (whole ? "." : ", their root without its signature.");
  }

  for (const t of tools) t.hidden = false;
  start.addEventListener("click", async () => {
    start.disabled = true;
    try { await verify(); } catch (err) {
      verdict.className = "verdict bad";
      verdict.textContent = "NOT verified: " + err.message;
    }
    progress.hidden = true;
    start.disabled = false;
  });
})();
