"use strict";
// What machines printed is only ever set as text (textContent, and text nodes): nothing here makes markup of a string.
(() => {
  const $ = (id) => document.getElementById(id);

  // el makes an element: el("p.dim", {title: …}, child…), with strings as text.
  function el(what, attrs, ...children) {
    const [tag, ...classes] = what.split(".");
    const e = document.createElement(tag);
    if (classes.length) e.className = classes.join(" ");
    for (const k in attrs || {}) if (attrs[k] != null) e.setAttribute(k, attrs[k]);
    e.append(...children.filter((c) => c != null));
    return e;
  }
  function svg(tag, attrs, text) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const k in attrs) if (attrs[k] != null) e.setAttribute(k, attrs[k]);
    if (text != null) e.textContent = text;
    return e;
  }
  const fixed = (s, digits) => s.toFixed(digits == null ? 3 : digits);
  const took = (s) => s < 0.0005 ? "0ms" : s < 1 ? (s * 1000).toFixed(s < 0.01 ? 1 : 0) + "ms" : s < 60 ? s.toFixed(1) + "s" : Math.floor(s / 60) + "m" + String(Math.round(s % 60)).padStart(2, "0") + "s";

  // ---- theme: as the system has it, until somebody chooses. A page from a file may have no storage.
  const themes = ["", "light", "dark"];
  const store = { get() { try { return localStorage.getItem("rig-theme") || ""; } catch { return ""; } }, set(v) { try { localStorage.setItem("rig-theme", v); } catch { /* then it is for this page only */ } } };
  function theme(v) {
    if (v) document.documentElement.dataset.theme = v; else delete document.documentElement.dataset.theme;
    $("theme").textContent = "theme: " + (v || "system");
  }
  let chosen = Math.max(0, themes.indexOf(store.get()));
  theme(themes[chosen]);
  $("theme").addEventListener("click", () => { chosen = (chosen + 1) % themes.length; theme(themes[chosen]); store.set(themes[chosen]); });

  // ---- the list, and its filter
  const all = [...document.querySelectorAll("details.scenario")];
  const filter = $("filter"), text = $("text");
  const verdicts = new Set();
  function applyFilter() {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const d of all) {
      const about = d.filterText || (d.filterText = (d.dataset.name + " " + d.dataset.verdict + " " + [...d.querySelectorAll(".brief, .proves")].map((e) => e.textContent).join(" ")).toLowerCase());
      d.hidden = !((verdicts.size === 0 || verdicts.has(d.dataset.verdict)) && words.every((w) => about.includes(w)));
      if (!d.hidden) shown++;
    }
    for (const a of document.querySelectorAll(".area")) a.hidden = ![...a.querySelectorAll("details.scenario")].some((d) => !d.hidden);
    filter.classList.toggle("some", verdicts.size > 0);
    $("shown").textContent = shown === all.length ? "" : shown + " of " + all.length + " scenarios";
  }
  text.addEventListener("input", applyFilter);
  filter.addEventListener("submit", (e) => e.preventDefault());
  for (const b of filter.querySelectorAll("button[data-verdict]")) b.addEventListener("click", () => {
    const v = b.dataset.verdict;
    if (!verdicts.delete(v)) verdicts.add(v);
    b.setAttribute("aria-pressed", verdicts.has(v));
    applyFilter();
  });

  // A scenario is made when it is open and in sight, not before.
  function make(d) {
    if (d.made || !d.open) return;
    d.made = true;
    const data = $("d" + d.dataset.i), into = d.querySelector(".more");
    try {
      scenario(JSON.parse(data.textContent), into);
    } catch (err) {
      into.append(el("p.note", {}, "This scenario could not be shown: " + err.message + ". Its events are in the run's folder."));
      throw err;
    }
    data.remove();
  }
  const sight = new IntersectionObserver((seen) => { for (const s of seen) if (s.isIntersecting) { sight.unobserve(s.target); make(s.target); } }, { rootMargin: "300px" });
  for (const d of all) {
    d.addEventListener("toggle", () => { if (d.open) make(d); });
    if (d.open) sight.observe(d);
  }
  // A page from a file may not have the clipboard; then the command is selected
  // and the browser copies the selection.
  async function copy(code, b) {
    let done = false;
    try { await navigator.clipboard.writeText(code.textContent); done = true; } catch {
      getSelection().selectAllChildren(code);
      done = document.execCommand("copy");
    }
    b.textContent = done ? "copied" : "selected: press Ctrl-C";
    setTimeout(() => { b.textContent = "copy"; }, 2000);
  }
  for (const code of document.querySelectorAll(".commands code")) {
    const b = el("button", { type: "button", "aria-label": "copy: " + code.textContent }, "copy");
    b.addEventListener("click", () => copy(code, b));
    code.after(b);
  }

  function fromHash() {
    let name = location.hash.slice(1);
    try { name = decodeURIComponent(name); } catch { /* then it is none of ours */ }
    const d = name && all.find((d) => d.dataset.name === name || d.id === name);
    if (d) { d.hidden = false; d.closest(".area").hidden = false; d.open = true; make(d); d.scrollIntoView(); }
  }
  addEventListener("hashchange", fromHash);
  fromHash();

  // ---- one scenario
  function scenario(s, into) {
    const view = { s };
    into.append(el("h3", {}, "Script"));
    view.script = script(view, into);
    into.append(el("h3", {}, "Time line"));
    timeline(view, into);
    into.append(el("h3", {}, "Lines of the nodes"));
    view.log = log(view, into);
    if (s.budgets) into.append(el("h3", {}, "Budgets"), ...s.budgets.map((b) => el("p", {}, b.name + ": " + took(b.seconds) + " of " + took(b.limit) + (b.seconds > b.limit ? ", over" : ""))));
  }

  // ---- the script: a line, how it went, how long it took; a click shows what happened in it
  const glyphs = { passed: "✓", failed: "✗", allowed: "✓", cut: "…", notrun: "·", comment: "" };
  const says = { passed: "passed", failed: "failed", allowed: "failed, as it was asked or allowed to", cut: "the scenario ended while it ran", notrun: "did not run", comment: "" };

  function eventRow(e) {
    return el("div.ev", {}, el("span", {}, fixed(e.t)), el("span", {}, e.kind), el("span", {}, e.node || ""), el("span", {}, e.text));
  }
  function script(view, into) {
    const s = view.s, box = el("div.script"), byLine = new Map(), rows = new Map();
    const typed = s.steps.filter((st) => st.typed);
    for (const st of s.steps) if (!st.typed) { if (!byLine.has(st.line)) byLine.set(st.line, []); byLine.get(st.line).push(st); }
    into.append(el("p.dim", {}, s.source.file + " — " + s.source.note + ". A click on a line shows its events."), box);

    function row(n, text, steps, isTyped) {
      const last = steps && steps[steps.length - 1];
      const blank = !text.trim(), comment = !last && /^\s*#/.test(text);
      let state = last ? last.state : comment || blank ? "comment" : "notrun";
      // A fault that touched nothing, say: the step held, and yet it is the line to look at.
      if (last && !isTyped && n === s.fail && s.result !== "passed" && state === "passed") state = s.result === "repaired" ? "passed" : "failed";
      let time = last ? took(steps.reduce((sum, st) => sum + st.s, 0)) : state === "notrun" ? "not run" : "";
      if (steps && steps.length > 1) time = steps.length + "×, " + (last.state === "passed" && steps.some((st) => st.state === "failed") ? "failed first, " : "") + time;
      const r = el((last ? "button" : "div") + ".src." + state + (isTyped ? ".typed" : ""), { type: last ? "button" : null, title: says[state] || null, "aria-expanded": last ? "false" : null },
        el("span.n", {}, isTyped ? "↳" : String(n)), el("span.g", {}, glyphs[state]), el("span.t", {}, text), el("span.d", {}, time));
      box.append(r);
      if (!last) return r;
      r.addEventListener("click", () => toggle(r, steps));
      for (const st of steps) rows.set(st.step, { r, steps });
      return r;
    }
    function toggle(r, steps, show) {
      const open = r.next != null;
      if (open && show !== true) { r.next.remove(); r.next = null; r.setAttribute("aria-expanded", "false"); return; }
      if (open) return;
      const ids = new Set(steps.map((st) => st.step)), t0 = Math.min(...steps.map((st) => st.t)), t1 = Math.max(...steps.map((st) => st.t + st.s));
      // Faults and nodes have no step of their own: what happened while it ran is shown with it.
      const list = s.events.filter((e) => ids.has(e.step) || (!e.step && e.t >= t0 && e.t <= t1 && e.kind !== "section"));
      r.next = el("div.events", {}, ...list.slice(0, 500).map(eventRow));
      if (list.length > 500) r.next.append(el("p.dim", {}, (list.length - 500) + " more are in ", el("a", { href: s.file }, "events.jsonl")));
      if (!list.length) r.next.append(el("p.dim", {}, "No events of this line are here."));
      if (s.left) r.next.append(el("p.dim", {}, "Of this scenario " + s.left + " events from its middle are not in this page, but in ", el("a", { href: s.file }, "events.jsonl"), "."));
      r.after(r.next);
      r.setAttribute("aria-expanded", "true");
    }

    const held = (s.held || []).slice();
    const showHeld = (h) => {
      box.append(el("div.src.typed", {}, el("span.n", {}, "‖"), el("span.g"), el("span.t", {}, "stood still for a person (" + h.why + ") from " + fixed(h.from, 1) + "s; it went on by: " + h.how), el("span.d", {}, took(h.to - h.from))));
      for (const st of typed.filter((st) => st.t >= h.from && st.t <= h.to)) row(st.line, st.text, [st], true);
    };
    for (const l of s.source.lines) {
      row(l.n, l.text, byLine.get(l.n));
      for (const h of held.filter((h) => h.line === l.n)) { showHeld(h); held.splice(held.indexOf(h), 1); }
    }
    held.forEach(showHeld);
    for (const st of typed) if (!rows.has(st.step)) row(st.line, st.text, [st], true); // typed elsewhere, while the script ran
    if (s.result !== "passed") for (const st of s.steps) if (st.line === s.fail && !st.typed) { const at = rows.get(st.step); if (at) toggle(at.r, at.steps, true); }
    return { show(step) { const at = rows.get(step); if (at) { toggle(at.r, at.steps, true); at.r.scrollIntoView({ block: "center" }); at.r.focus({ preventScroll: true }); } } };
  }

  // ---- the time line
  function timeline(view, into) {
    const s = view.s, end = Math.max(s.seconds, 0.001), LEFT = 54;
    let from = 0, to = end, width = 0;
    const minus = el("button", { type: "button", title: "zoom out", "aria-label": "zoom out" }, "−"), plus = el("button", { type: "button", title: "zoom in", "aria-label": "zoom in" }, "+");
    const fit = el("button", { type: "button" }, "all"), back = el("button", { type: "button", "aria-label": "earlier" }, "←"), fore = el("button", { type: "button", "aria-label": "later" }, "→");
    const box = el("div.tl"), canvas = svg("svg", { role: "group", "aria-label": "time line" }), about = el("div.about.dim", { "aria-live": "polite" });
    const hint = "Point at something, or tap it. Drag moves, Ctrl and wheel or two fingers zoom.";
    about.textContent = hint;
    box.append(canvas, about);
    const bad = s.steps.filter((st) => st.state === "failed" && !st.typed).pop() || s.steps.filter((st) => st.state === "cut").pop();
    const toBad = bad && el("button", { type: "button" }, "what broke");
    into.append(el("div.bar2", {}, minus, plus, back, fore, fit, toBad), box);

    // Rows that do not overlap, each thing in the first one that is free.
    function pack(items, a, b) {
      const ends = [];
      for (const it of items) {
        let i = ends.findIndex((e) => e <= a(it) + 1e-9);
        if (i < 0) i = ends.push(0) - 1;
        ends[i] = b(it);
        it.row = Math.min(i, 7);
      }
      return Math.min(ends.length, 8);
    }
    const nodes = s.nodes, names = nodes.map((n) => n.name);
    const steps = s.steps.slice().sort((a, b) => a.t - b.t);
    const stepRows = pack(steps, (st) => st.t, (st) => st.t + st.s);
    const faultEnd = (f) => f.healed < 0 ? end : f.healed;
    const faults = s.faults || [];
    const groups = [{ name: "faults", list: faults.filter((f) => !names.includes(f.node)) }, ...names.map((n) => ({ name: n, list: faults.filter((f) => f.node === n) }))];
    for (const g of groups) g.rows = pack(g.list, (f) => f.asked, faultEnd);
    const called = (f) => [f.name, f.node, f.text].filter(Boolean).join(" "); // as a script has it: link B down
    const ticks = s.ticks || [], kinds = [...new Set(ticks.map((t) => t.kind))];
    const known = ["syn", "syn-ack", "handshake", "record", "fin", "rst", "announce", "arp", "udp", "gap", "frame"];
    const kindClass = (k) => "k-" + (known.includes(k) ? k.replace("-", "") : "other");

    // Where everything is from top to bottom.
    let y = 22;
    const phaseY = y; y += s.phases ? 13 : 0;
    const stepY = y; y += stepRows * 19 + 6;
    const otherY = y; y += groups[0].rows ? groups[0].rows * 15 + 6 : 0;
    const lanes = [], gaps = [];
    nodes.forEach((n, i) => {
      const g = groups[i + 1];
      lanes.push({ y, n, g, faultY: y + 28, h: 28 + g.rows * 15 + 4 });
      y += lanes[i].h;
      if (ticks.length && (i < nodes.length - 1 || nodes.length === 1)) { gaps.push({ y: y + 2, i }); y += 34; }
    });
    const height = y + 4;
    canvas.setAttribute("height", height);

    let hits = [];
    const X = (t) => LEFT + (t - from) / (to - from) * (width - LEFT - 8);
    const T = (x) => from + (x - LEFT) / (width - LEFT - 8) * (to - from);
    const clamp = (x) => Math.min(Math.max(x, LEFT), width - 8);
    const within = (a, b) => b >= from && a <= to;

    function hit(e, what) { e.classList.add("hit"); e.dataset.h = hits.push(what) - 1; canvas.append(e); return e; }
    function block(a, b, y, h, cls, what, label, on) {
      if (!within(a, b)) return;
      const x0 = clamp(X(a)), x1 = clamp(X(b)), w = Math.max(x1 - x0, 2);
      hit(svg("rect", { x: x0, y, width: w, height: h, rx: 2, class: cls }), what);
      const fits = Math.floor((w - 8) / 6.3);
      if (label && fits >= 2) canvas.append(svg("text", { x: x0 + 4, y: y + h - 4, class: on ? "on" : null }, label.length > fits ? label.slice(0, fits - 1) + "…" : label));
    }

    function draw() {
      width = box.clientWidth;
      if (!width) return;
      canvas.replaceChildren();
      canvas.setAttribute("viewBox", "0 0 " + width + " " + height);
      hits = [];
      // axis
      const span = to - from, rough = span / Math.max(2, (width - LEFT) / 90), mag = 10 ** Math.floor(Math.log10(rough));
      const unit = [1, 2, 5, 10].map((m) => m * mag).find((u) => u >= rough), digits = Math.max(0, -Math.floor(Math.log10(unit) + 1e-9));
      for (let t = Math.ceil(from / unit) * unit; t <= to + 1e-9; t += unit) {
        canvas.append(svg("line", { x1: X(t), x2: X(t), y1: 16, y2: height, class: "grid" }));
        if (X(t) < width - 24) canvas.append(svg("text", { x: X(t) + 3, y: 13, class: "axis" }, fixed(t, digits) + "s"));
      }
      for (const h of s.held || []) if (within(h.from, h.to)) hit(svg("rect", { x: clamp(X(h.from)), y: 17, width: Math.max(clamp(X(h.to)) - clamp(X(h.from)), 2), height: height - 17, class: "held" }), { text: "stood still for a person (" + h.why + ") " + took(h.to - h.from) + ", went on by: " + h.how });
      for (const p of s.phases || []) block(p.from, p.to, phaseY, 9, "phase", { text: "phase " + p.name + ": " + took(p.to - p.from) + ", " + fixed(p.from) + "s to " + fixed(p.to) + "s" });
      for (const st of steps) block(st.t, st.t + st.s, stepY + st.row * 19, 16, "step-" + (st.typed ? "typed" : st.state),
        { text: (st.typed ? "typed: " : "line " + st.line + ": ") + st.text + "\n" + says[st.state] + ", " + took(st.s) + " from " + fixed(st.t) + "s" + (st.error ? "\n" + st.error : ""), step: st.step }, st.text, st.state === "failed" && !st.typed);
      const drawFaults = (g, y) => {
        for (const f of g.list) {
          const what = { text: "fault: " + called(f) + "\nasked at " + fixed(f.asked) + "s, " + (f.injected < 0 ? "never injected" : "injected at " + fixed(f.injected) + "s") + ", " + (f.healed < 0 ? "in force until the end" : (f.once ? "over at " : "healed at ") + fixed(f.healed) + "s") + "; " + (f.count ? "touched " + f.count + (f.count === 1 ? " frame or event" : " frames or events") : f.healed < 0 ? "what it touched was not counted before the end" : "touched nothing") };
          const start = f.injected < 0 ? f.asked : f.injected;
          if (f.injected >= 0 && X(f.injected) - X(f.asked) > 2) block(f.asked, f.injected, y + f.row * 15, 12, "asked", what);
          block(start, faultEnd(f), y + f.row * 15, 12, "fault" + (f.count || f.healed < 0 ? "" : " untouched"), what, called(f) + (f.count ? " ×" + f.count : ""));
        }
      };
      if (groups[0].rows) drawFaults(groups[0], otherY);
      lanes.forEach((lane, li) => {
        canvas.append(svg("line", { x1: 0, x2: width, y1: lane.y - 1, y2: lane.y - 1, class: "rule" }));
        lane.n.states.forEach((st, i) => {
          const next = lane.n.states[i + 1];
          block(st.t, next ? next.t : end, lane.y + 3, 20, "st-" + st.state, { text: "node " + lane.n.name + " " + st.state + (st.text ? ": " + st.text : "") + ", from " + fixed(st.t) + "s", node: lane.n.name, t: st.t });
        });
        drawFaults(lane.g, lane.faultY);
        let lastX = -9;
        for (const m of lane.n.marks) {
          if (!within(m.t, m.t)) continue;
          const x = X(m.t);
          const dot = hit(svg("circle", { cx: x, cy: lane.y + 13, r: 5.5, class: "mark", tabindex: 0, role: "button", "aria-label": m.text }), { text: "marker at " + fixed(m.t) + "s on " + lane.n.name + " [" + m.unit + "]\n" + m.text, node: lane.n.name, t: m.t, mark: true });
          if (x - lastX < 1) dot.removeAttribute("tabindex");
          lastX = x;
        }
      });
      for (const gap of gaps) drawTicks(gap);
      if (bad && within(bad.t + bad.s, bad.t + bad.s)) canvas.append(svg("line", { x1: X(bad.t + bad.s), x2: X(bad.t + bad.s), y1: 16, y2: height, class: "fail" }));
      canvas.append(svg("rect", { x: 0, y: 0, width: LEFT - 2, height, class: "gutter" }));
      canvas.append(svg("text", { x: 8, y: stepY + 12, class: "label" }, "rig"));
      if (groups[0].rows) canvas.append(svg("text", { x: 8, y: otherY + 10 }, "faults"));
      for (const lane of lanes) canvas.append(svg("text", { x: 8, y: lane.y + 17, class: "label" }, lane.n.name.slice(0, 7)));
      for (const gap of gaps) canvas.append(svg("text", { x: 8, y: gap.y + 18, class: "axis" }, "packets"));
    }

    // stopped says where a packet on its way through a gap is stopped, and by
    // which fault: at its sender, at its receiver, or in between. It is null
    // for one that goes through, and "" for one that was stopped before this
    // gap.
    function stopped(t, gap, dir) {
      const sender = names.indexOf(t.from), receiver = names[dir > 0 ? gap.i + 1 : gap.i];
      const first = sender < 0 || sender === (dir > 0 ? gap.i : gap.i + 1);
      let may = null;
      for (const i of t.cuts || []) {
        const f = faults[i];
        let where = null;
        if (!f.at) where = first ? "between" : "";
        else if (f.at === t.from) where = first ? "sender" : "";
        else if (f.at === receiver && (t.to === receiver || !names.includes(t.to))) where = "receiver";
        if (where == null) continue;
        if (!f.may) return { where, f };
        may = may || { where, f };
      }
      return may;
    }

    // Ticks of one kind, direction and fate that fall on one pixel are one line
    // with a count: however many there are, a few thousand are drawn.
    function drawTicks(gap) {
      const cells = new Map(), side = (name) => { const i = names.indexOf(name); return i < 0 ? null : i <= gap.i ? 0 : 1; };
      for (const t of ticks) {
        if (t.t < from || t.t > to) continue;
        const a = side(t.from), b = side(t.to);
        if (a != null && a === b && nodes.length > 1) continue; // it does not pass here
        const dir = a == null && b == null ? 0 : a === 0 || b === 1 ? 1 : -1;
        const stop = dir ? stopped(t, gap, dir) : null;
        if (stop && stop.where === "" && !stop.f.may) continue; // it does not come so far
        const key = [Math.round(X(t.t)), dir, t.kind, stop ? stop.where + stop.f.may : ""].join(" ");
        const c = cells.get(key);
        if (c) { c.n++; if (c.texts.length < 6) c.texts.push(t); } else cells.set(key, { n: 1, t: t.t, dir, kind: t.kind, stop, texts: [t] });
      }
      for (const c of cells.values()) {
        const x = X(c.t), k = kindClass(c.kind), top = gap.y + 2, bottom = gap.y + 28, stop = c.stop;
        const fate = !stop ? "" : stop.f.may ? ", which " + called(stop.f) + " may have stopped" : ", stopped by " + called(stop.f);
        const what = { text: c.texts.map((t) => fixed(t.t, 4) + "s " + (t.from || "?") + " → " + (t.to || "all") + " " + t.kind + (t.text ? ": " + t.text : "") + fate).join("\n") + (c.n > c.texts.length ? "\nand " + (c.n - c.texts.length) + " more at this point: zoom in" : "") };
        // From where it is sent to where it gets to.
        let y0 = c.dir < 0 ? bottom : top, y1 = c.dir < 0 ? top : bottom;
        const cut = stop && !stop.f.may;
        if (cut) y1 = y0 + (y1 - y0) * { sender: 0.3, between: 0.5, receiver: 0.7 }[stop.where];
        const state = cut ? " stopped" : stop ? " may" : "";
        hit(svg("path", { d: "M" + x + " " + y0 + "L" + x + " " + y1, class: "tick " + k + state, fill: "none" }), what);
        if (cut) hit(svg("path", { d: "M" + (x - 3) + " " + (y1 - 3) + "l6 6m0 -6l-6 6", class: "cut" }), what);
        else if (c.dir) { const back = y1 - c.dir * 5; hit(svg("path", { d: "M" + (x - 3) + " " + back + "L" + x + " " + y1 + "L" + (x + 3) + " " + back, class: "tick head " + k + state }), what); }
      }
    }

    const least = Math.max(end / 20000, 0.0005);
    function look(a, b) {
      const span = Math.min(Math.max(b - a, least), end);
      from = Math.min(Math.max(a, 0), end - span);
      to = from + span;
      draw();
    }
    function zoom(by, at) { const span = (to - from) * by; look(at - (at - from) * by, at - (at - from) * by + span); }
    const mid = () => (from + to) / 2;
    minus.onclick = () => zoom(2, mid());
    plus.onclick = () => zoom(0.5, mid());
    back.onclick = () => look(from - (to - from) / 3, to - (to - from) / 3);
    fore.onclick = () => look(from + (to - from) / 3, to + (to - from) / 3);
    fit.onclick = () => look(0, end);
    if (toBad) toBad.onclick = () => { const pad = Math.max(bad.s * 0.3, 0.05); look(bad.t - pad, bad.t + bad.s + pad); tell({ text: "line " + bad.line + ": " + bad.text + (bad.error ? "\n" + bad.error : ""), step: bad.step }, true); };
    canvas.addEventListener("wheel", (e) => {
      if (!e.ctrlKey && Math.abs(e.deltaX) <= Math.abs(e.deltaY)) return; // the page scrolls
      e.preventDefault();
      if (e.ctrlKey) zoom(e.deltaY > 0 ? 1.25 : 0.8, T(e.offsetX)); else look(from + e.deltaX / width * (to - from), to + e.deltaX / width * (to - from));
    }, { passive: false });

    function tell(what, buttons) {
      about.replaceChildren(what ? what.text : hint);
      about.classList.toggle("dim", !what);
      if (!what || !buttons) return;
      if (what.step) { const b = el("button", { type: "button" }, "events of this line"); b.onclick = () => view.script.show(what.step); about.append(b); }
      if (what.node != null) { const b = el("button", { type: "button" }, "lines of " + what.node + " around then"); b.onclick = () => view.log.go(what.node, what.t); about.append(b); }
      if (what.step) { const st = s.steps.find((st) => st.step === what.step); const b = el("button", { type: "button" }, "all lines around then"); b.onclick = () => view.log.go("", st.state === "failed" || st.state === "cut" ? st.t + st.s : st.t); about.append(b); }
    }
    const of = (e) => e.target.dataset && e.target.dataset.h != null ? hits[e.target.dataset.h] : null;
    let pinned = false, downs = new Map(), moved = 0, span0 = 0;
    canvas.addEventListener("pointerover", (e) => { if (!pinned && !downs.size && e.pointerType === "mouse") tell(of(e)); });
    canvas.addEventListener("pointerdown", (e) => { downs.set(e.pointerId, e.offsetX); moved = 0; span0 = 0; if (e.pointerType === "mouse") e.preventDefault(); });
    canvas.addEventListener("pointermove", (e) => {
      if (!downs.has(e.pointerId)) return;
      const was = downs.get(e.pointerId), x = e.offsetX;
      moved += Math.abs(x - was);
      if (moved > 4 && !canvas.hasPointerCapture(e.pointerId)) { canvas.setPointerCapture(e.pointerId); canvas.classList.add("drag"); }
      downs.set(e.pointerId, x);
      if (downs.size === 2) {
        const [a, b] = [...downs.values()], span = Math.abs(a - b) + 1;
        if (span0) zoom(span0 / span, T((a + b) / 2));
        span0 = span;
      } else if (moved > 4) {
        const dt = (was - x) / (width - LEFT - 8) * (to - from);
        look(from + dt, to + dt);
      }
    });
    const up = (e) => { downs.delete(e.pointerId); span0 = 0; if (!downs.size) canvas.classList.remove("drag"); };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("click", (e) => {
      if (moved > 4) return;
      const what = of(e);
      pinned = what != null;
      tell(what, true);
      // A mouse has seen what it points at; a finger has not, and gets the buttons.
      if (what && what.mark && e.pointerType !== "touch") view.log.go(what.node, what.t);
    });
    canvas.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { const what = of(e); if (what && what.mark) { e.preventDefault(); tell(what, true); view.log.go(what.node, what.t); } } });

    const legend = el("p.legend", {}, ...[["l-ok", "step held"], ["l-bad", "step failed"], ["l-start", "node starting"], ["l-mark", "marker"], ["l-fault", "fault in force"], ["l-held", "a person"]].map(([c, t]) => el("span", {}, el("i." + c), t)));
    const sample = (...parts) => { const key = svg("svg", { viewBox: "0 0 24 10" }); key.append(...parts); return key; };
    if (ticks.some((t) => (t.cuts || []).some((i) => !faults[i].may))) legend.append(el("span", {}, sample(svg("path", { d: "M9 2l6 6m0 -6l-6 6", class: "cut" })), "stopped here by a fault"));
    kinds.slice(0, 12).forEach((k) => { const key = sample(svg("line", { x1: 0, y1: 5, x2: 24, y2: 5, "stroke-width": 2.5, class: kindClass(k) })); legend.append(el("span", {}, key, k || "packet")); });
    into.append(legend);
    if (s.noTicks) into.append(el("p.dim", {}, s.noTicks + " earlier packets are not in this page."));
    new ResizeObserver(() => { if (box.clientWidth !== width) draw(); }).observe(box);
    draw();
  }

  // ---- what nodes printed. A few hundred lines are in the document at a time.
  function log(view, into) {
    const s = view.s, ROOM = 400;
    if (!s.nodes.length) { into.append(el("p.dim", {}, "No node was started.")); return { go() {} }; }
    let which = "", first = 0, last = 0, list = [], mark = null;
    const every = s.nodes.flatMap((n, ni) => n.lines.map((l) => ({ l, n, ni }))).sort((a, b) => a.l.t - b.l.t);
    const tabs = [["", "all"], ...s.nodes.map((n) => [n.name, n.name])].map(([name, label]) => {
      const b = el("button", { type: "button", "aria-pressed": String(name === "") }, label);
      b.onclick = () => { choose(name); mark = null; fill(); };
      b.name2 = name;
      return b;
    });
    const unit = el("select", { "aria-label": "unit" }), words = el("input", { type: "search", placeholder: "filter lines by text", "aria-label": "filter lines by text" }), say = el("span.dim");
    const units = [...new Set(s.nodes.flatMap((n) => n.units))].sort();
    unit.append(el("option", { value: "" }, "every unit"), ...units.map((u) => el("option", { value: u }, u)));
    const box = el("div.log", { tabindex: 0, role: "log", "aria-label": "lines of the nodes" });
    into.append(el("div.bar2", {}, ...tabs, unit, words, say), box);
    for (const n of s.nodes) {
      const p = el("p.dim", {}, n.name + ": ");
      if (n.left) p.append(n.left + " earlier lines are not in this page; ");
      p.append("all of it is in ");
      n.files.forEach((f, i) => p.append(i ? ", " : "", el("a", { href: f.href }, f.name)));
      for (const note of n.notes || []) p.append("; " + note);
      into.append(p);
    }
    function choose(name) { which = name; for (const b of tabs) b.setAttribute("aria-pressed", String(b.name2 === name)); }
    function select() {
      const w = words.value.toLowerCase(), u = unit.value;
      list = every.filter((x) => (!which || x.n.name === which) && (!u || x.n.units[x.l.u] === u) && (!w || x.l.x.toLowerCase().includes(w)));
    }
    function row(x) {
      const r = el("div.ln" + (x.l.e ? ".err" : ""), { title: x.l.a ? "time found by the node's own clock" : null }, el("span", {}, (x.l.a ? "≈" : "") + fixed(x.l.t)), el("span.n" + x.ni % 6, {}, x.n.name), el("span", { title: x.n.units[x.l.u] }, x.n.units[x.l.u]), el("span", {}, x.l.x));
      if (x === mark) r.classList.add("hitline");
      return r;
    }
    function show() {
      const rows = list.slice(first, last).map(row);
      if (first > 0) { const b = el("button", { type: "button" }, first + " lines above"); b.onclick = () => { const h = box.scrollHeight; first = Math.max(0, first - ROOM); show(); box.scrollTop = box.scrollHeight - h; }; rows.unshift(b); }
      if (last < list.length) { const b = el("button", { type: "button" }, (list.length - last) + " lines below"); b.onclick = () => { const at = box.scrollTop; last = Math.min(list.length, last + ROOM); show(); box.scrollTop = at; }; rows.push(b); }
      if (!rows.length) rows.push(el("p.dim", {}, every.length ? "No line matches." : "The nodes printed nothing, or it is not in the record."));
      box.replaceChildren(...rows);
      say.textContent = list.length + (list.length === 1 ? " line" : " lines");
    }
    function fill() { select(); first = Math.max(0, list.length - ROOM); last = list.length; show(); box.scrollTop = box.scrollHeight; }
    words.addEventListener("input", () => { mark = null; fill(); });
    unit.addEventListener("change", () => { mark = null; fill(); });
    fill();
    return {
      go(name, t) {
        choose(name); words.value = ""; unit.value = "";
        select();
        let at = 0;
        list.forEach((x, i) => { if (Math.abs(x.l.t - t) < Math.abs(list[at].l.t - t)) at = i; });
        mark = list[at];
        first = Math.max(0, at - ROOM / 2);
        last = Math.min(list.length, at + ROOM / 2);
        show();
        const r = box.querySelector(".hitline");
        if (r) box.scrollTop = r.offsetTop - box.offsetTop - box.clientHeight / 2;
        box.scrollIntoView({ block: "center" });
      },
    };
  }
})();
