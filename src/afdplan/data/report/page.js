// Draws what the page holds. Nothing is computed here: every number and word comes from afdplan.
"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const drawn = read("drawn");
  const chosen = { ...drawn.choices };
  const DASHES = { ffn: "7 4", second: "7 4", communication: "2 3", third: "2 3", latency: "9 3 2 3", neutral: "4 4" };
  const SYMBOLS = { ffn: "square", second: "square", communication: "triangle", third: "triangle", latency: "diamond", best: "star" };
  const PLACES = { above: { dy: -16 }, below: { dy: 18 }, left: { dx: -11, textAnchor: "end" }, right: { dx: 11, textAnchor: "start" } };
  const RECTS = "rect";
  const PRINTED = 0.7;  // paper is wide and short: lower charts leave fewer pages half empty
  const colour = (role) => `var(--${role})`;
  const tint = (role, share) => `color-mix(in srgb, ${colour(role)} ${share}, var(--paper))`;
  const make = (name, attributes = {}, parent = null) => {
    const space = ["svg", "line", "rect", "pattern", "path", "defs"].includes(name);
    const node = space ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (parent) parent.append(node);
    return node;
  };

  // Hatches tell idle from busy without colour; one set for the whole page.
  const defs = make("defs", {}, make("svg", { width: 0, height: 0, "aria-hidden": "true", style: "position:absolute" }, document.body));
  for (const role of ["attention", "ffn", "communication", "latency", "best", "main", "second", "third", "neutral"]) {
    for (const [fill, path] of [["hatch", "M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4"], ["dots", "M2,2 h1.6 M6,6 h1.6"], ["cross", "M0,4 h8 M4,0 v8"]]) {
      const pattern = make("pattern", { id: `${fill}-${role}`, width: 8, height: 8, patternUnits: "userSpaceOnUse" }, defs);
      make("rect", { width: 8, height: 8, style: `fill:${tint(role, "12%")}` }, pattern);
      make("path", { d: path, style: `stroke:${colour(role)};stroke-width:1.4;fill:none` }, pattern);
    }
  }
  const paint = (role, fill, value) => {
    if (fill === "frame") return "none";
    if (value !== undefined) return tint(role, `${Math.round(8 + 92 * value)}%`);
    if (fill === "tint") return tint(role, "var(--tint)");
    return !fill || fill === "solid" ? colour(role) : `url(#${fill}-${role})`;
  };

  const rowsOf = (layer) => {
    const names = Object.keys(layer.columns);
    const length = names.length ? layer.columns[names[0]].length : 0;
    return Array.from({ length }, (_, k) => {
      const row = { words: layer.words[k] ?? "", role: layer.role };
      for (const name of names) row[name] = layer.columns[name][k];
      return row;
    });
  };

  const rectMarks = (layer, rows, chart) => {
    const fill = (d) => paint(d.role, d.fill, d.value);
    const pick = (name) => (name in layer.columns ? { [name]: name } : {});
    const place = { ...pick("x"), ...pick("x1"), ...pick("x2"), ...pick("y"), ...pick("y1"), ...pick("y2") };
    const banded = { x: chart.x.scale === "category", y: chart.y.scale === "category" };
    const shape = banded.x && banded.y ? Plot.cell : banded.y ? Plot.barX : banded.x ? Plot.barY : Plot.rect;
    const inset = banded.x && banded.y ? 0.75 : banded.y ? 0.2 : banded.x ? 0 : 0;
    const marks = [shape(rows, { ...place, fill, inset, stroke: (d) => (d.fill === "frame" ? colour(d.role) : "var(--paper)"), strokeWidth: rows.length > 400 ? 0 : rows.some((d) => d.fill === "frame") ? 3 : 0.6 })];
    if ("text" in layer.columns) {
      const middle = (d, a) => (a in d ? d[a] : (d[`${a}1`] + d[`${a}2`]) / 2);
      marks.push(Plot.text(rows, { x: (d) => middle(d, "x"), y: (d) => middle(d, "y"), text: "text", fill: "var(--ink)", fontWeight: 600 }));
    }
    return marks;
  };

  const marksOf = (layer, rows, chart) => {
    const stroke = colour(layer.role);
    const dash = { strokeDasharray: DASHES[layer.role] };
    const label = { fill: stroke, stroke: "var(--paper)", strokeWidth: 4, fontWeight: 600, lineHeight: 1.15 };
    switch (layer.kind) {
      case "line": return [Plot.line(rows, { x: "x", y: "y", stroke, strokeWidth: 2, ...dash })];
      case "band": return [Plot.areaY(rows, { x: "x", y1: "low", y2: "high", fill: stroke, fillOpacity: 0.2 })];
      case "interval": {  // many of them must not hide the dots
        const look = rows.length > 60 ? { strokeWidth: 1, strokeOpacity: 0.4 } : { strokeWidth: 2, marker: rows.length > 40 ? "none" : "tick" };
        return [Plot.link(rows, { x: "x", y1: "low", y2: "high", stroke, ...look })];
      }
      case "span": return [Plot.link(rows, { y: "y", x1: "low", x2: "high", stroke, strokeWidth: 2, marker: "tick" })];
      case "dot": return [Plot.dot(rows, { x: "x", y: "y", stroke, fill: rows.length > 60 ? stroke : "var(--paper)", fillOpacity: 0.6, strokeWidth: 1.6, r: rows.length > 60 ? 2 : 3.5, symbol: SYMBOLS[layer.role] ?? "circle" })];
      case "point": return [
        Plot.dot(rows, { x: "x", y: "y", fill: stroke, stroke: "var(--paper)", strokeWidth: 1.5, r: 7, symbol: SYMBOLS[layer.role] ?? "circle" }),
        ...Object.entries(PLACES).map(([place, offset]) =>
          Plot.text(rows.filter((row) => (row.place ?? "above") === place), { x: "x", y: "y", text: "text", ...offset, ...label })),
      ];
      case "rule_x": return [
        Plot.ruleX(rows, { x: "x", stroke: "var(--paper)", strokeWidth: 4.5 }),
        Plot.ruleX(rows, { x: "x", stroke, strokeWidth: 1.8, ...dash }),
        ..."text" in layer.columns ? [Plot.text(rows, { x: "x", text: "text", frameAnchor: "top", dy: -14, ...label })] : [],
      ];
      case "rule_y": return [Plot.ruleY(rows, { y: "y", stroke, strokeWidth: 1.6, ...dash })];
      case "range": return [Plot.rect(rows, { x1: "low", x2: "high", fill: tint(layer.role, "14%") })];
      case "group": return [
        Plot.ruleX(rows.slice(1), { x: "low", stroke: "var(--soft)" }),
        Plot.text(rows, { x: (d) => (d.low + d.high) / 2, text: "text", frameAnchor: "bottom", dy: 14, fontSize: 12, fill: "var(--ink)" }),
      ];
      default: return rectMarks(layer, rows, chart);
    }
  };

  // What can be read out: rectangles and dots beside names each for itself, else all layers
  // together at every x.
  const stopsOf = (layers, chart) => {
    const head = (axis, value) => (axis.head ? `${axis.head} ${typeof value === "number" ? value.toLocaleString("en-US") : value}` : "");
    const rects = [], columns = new Map();
    for (const { layer, rows } of layers) {
      for (const row of rows) {
        if (!row.words) continue;
        if (layer.kind === RECTS || chart.y.scale === "category") {
          const middle = (a) => (a in row ? row[a] : chart[a].scale === "log" ? Math.sqrt(row[`${a}1`] * row[`${a}2`]) : (row[`${a}1`] + row[`${a}2`]) / 2);
          rects.push({ x: middle("x"), y: middle("y"), text: row.words });
        } else {
          const words = layer.name ? `${layer.name}: ${row.words}` : row.words;
          const y = row.y ?? row.high;
          const stop = columns.get(row.x);
          if (stop) { stop.text += `\n${words}`; } else { columns.set(row.x, { x: row.x, y, text: [head(chart.x, row.x), words].filter(Boolean).join("\n") }); }
        }
      }
    }
    const byX = [...columns.values()].sort((a, b) => a.x - b.x);
    return { rects, byX, all: byX.length ? byX : rects };
  };

  const scaleOf = (axis, width, isX) => {
    const scale = { label: axis.label };
    if (axis.scale === "category") {
      scale.type = "band";
      scale.domain = axis.limits;
      scale.label = axis.label || null;
      if (!isX) { scale.labelAnchor = "top"; scale.labelArrow = "none"; }
      const step = Math.ceil(axis.limits.length / (width / (isX ? 30 : 1)));
      if (isX && step > 1) scale.ticks = axis.limits.filter((_, k) => k % step === 0);
      if (isX) scale.padding = 0.08;
    } else {
      scale.type = axis.scale;
      scale.zero = axis.zero;
      scale.grid = !isX;
      if (axis.limits) scale.domain = axis.limits;
      scale.label = axis.label || null;
      if (axis.mirrored) scale.tickFormat = (d) => `${Math.abs(d)}`;
      scale.ticks = !axis.ticks ? [] : isX ? Math.max(3, Math.floor(width / 80)) : 5;
      if (axis.scale === "log") scale.tickFormat = (d) => (Number.isInteger(Math.log10(d)) || d.toPrecision(1)[0] === "2" || d.toPrecision(1)[0] === "5" ? d3.format(d < 1 ? ".1~g" : ",")(d) : "");
    }
    return scale;
  };

  const draw = (figure, state, printed = 0) => {
    const key = figure.choices.map((name) => chosen[name]).join("|");
    const chart = figure.charts[key];
    const node = document.getElementById(figure.id);
    const place = node.querySelector(".plot");
    const width = printed || Math.max(280, Math.floor(place.clientWidth));
    const layers = chart.layers
      .filter((layer) => state.shown[layer.name] ?? layer.shown)
      .map((layer) => ({ layer, rows: rowsOf(layer) }));
    const marks = layers.flatMap(({ layer, rows }) => marksOf(layer, rows, chart));
    const stops = stopsOf(layers, chart);
    const tip = { x: "x", y: "y", title: "text", fontSize: 13, lineWidth: 24, fill: "var(--paper)", stroke: "var(--soft)", maxRadius: Infinity };
    // A phone has no room for a tip over the chart: there a ring marks the spot, words stand below.
    const narrow = width < 560;
    const ring = { x: "x", y: "y", r: 8, stroke: "var(--focus)", strokeWidth: 2.5, maxRadius: Infinity };
    for (const [found, pointer] of [[stops.rects, Plot.pointer], [stops.byX, Plot.pointerX]]) {
      if (found.length) marks.push(narrow ? Plot.dot(found, pointer(ring)) : Plot.tip(found, pointer(tip)));
    }
    marks.push(Plot.ruleX(chart.x.includes, { stroke: "none" }), Plot.ruleY(chart.y.includes, { stroke: "none" }));
    const longest = chart.y.scale === "category" ? Math.max(...chart.y.limits.map((name) => String(name).length)) : 0;
    const wanted = 16 + 7.2 * longest;
    const marginLeft = longest ? Math.min(wanted, 0.5 * width) : 56;
    if (longest) {  // long names take a second line where there is no room, long words lose their middle
      const axis = { label: chart.y.label || null, labelAnchor: "top", labelArrow: "none" };
      const fontSize = narrow ? 12 : 13;
      const em = marginLeft < wanted ? 1.1 * fontSize : 12;
      const lineWidth = (marginLeft - 14) / em;
      const word = Math.max(...chart.y.limits.flatMap((name) => String(name).split(" ")).map((part) => part.length));
      const textOverflow = 0.6 * word > lineWidth ? "ellipsis-middle" : undefined;
      marks.unshift(Plot.axisY({ ...axis, fontSize, lineHeight: 1, lineWidth, textOverflow }));
    }
    const plot = Plot.plot({
      width, height: printed && chart.y.scale !== "category" ? Math.round(PRINTED * chart.height) : chart.height, marginLeft,
      marginRight: 18, marginTop: 32, marginBottom: 42,
      style: { fontSize: "13px" },
      x: scaleOf(chart.x, width - 80, true), y: scaleOf(chart.y, width, false),
      color: { type: "identity" },
      ariaLabel: node.querySelector("figcaption").textContent.trim(),
      marks: [...marks],
    });
    plot.setAttribute("role", "img");
    // Groups have no role that could carry the names Plot gives them; the picture has its own.
    const unname = () => plot.querySelectorAll("g[aria-label]").forEach((g) => g.removeAttribute("aria-label"));
    unname();
    plot.addEventListener("input", unname);
    const reading = node.querySelector(".reading");
    reading.classList.toggle("narrow", narrow);
    if (narrow) plot.addEventListener("input", () => { if (plot.value) reading.textContent = plot.value.text; });
    place.replaceChildren(plot);
    state.plot = plot;
    state.stops = stops.all;
    if (state.at >= stops.all.length) state.at = -1;
    legend(figure, chart, state, node);
  };

  const swatch = (layer) => {
    const svg = make("svg", { width: 26, height: 14, "aria-hidden": "true" });
    const row = rowsOf(layer)[0] ?? {};
    if (layer.kind === "rect") make("rect", { x: 1, y: 1, width: 24, height: 12, style: `fill:${paint(row.role ?? layer.role, row.fill, undefined)};stroke:${colour(row.role ?? layer.role)}` }, svg);
    else if (layer.kind === "band" || layer.kind === "range") make("rect", { x: 1, y: 1, width: 24, height: 12, style: `fill:${tint(layer.role, "24%")}` }, svg);
    else if (layer.kind === "dot" || layer.kind === "point") make("path", { d: d3.symbol({ circle: d3.symbolCircle, square: d3.symbolSquare, triangle: d3.symbolTriangle, diamond: d3.symbolDiamond, star: d3.symbolStar }[SYMBOLS[layer.role] ?? "circle"], 60)(), transform: "translate(13,7)", style: layer.kind === "dot" ? `fill:var(--paper);stroke:${colour(layer.role)};stroke-width:1.6` : `fill:${colour(layer.role)}` }, svg);
    else make("line", { x1: 0, x2: 26, y1: 7, y2: 7, style: `stroke:${colour(layer.role)};stroke-width:2.4`, "stroke-dasharray": DASHES[layer.role] ?? "none" }, svg);
    return svg;
  };

  const legend = (figure, chart, state, node) => {
    const named = chart.layers.filter((layer, k) => layer.name && chart.layers.findIndex((other) => other.name === layer.name) === k);
    const signature = JSON.stringify(named.map((layer) => [layer.name, layer.role]));
    if (signature === state.legend) return;
    state.legend = signature;
    const place = node.querySelector(".legend");
    place.replaceChildren();
    if (named.length < 2) return;
    for (const layer of named) {
      const label = make("label", {}, place);
      const box = make("input", { type: "checkbox", autocomplete: "off" }, label);
      box.checked = state.shown[layer.name] ?? layer.shown;
      box.addEventListener("change", () => { state.shown[layer.name] = box.checked; draw(figure, state); });
      label.append(swatch(layer), layer.name);
    }
  };

  const step = (state, node, move) => {
    if (!state.stops.length) return;
    state.at = Math.min(Math.max(state.at + move, 0), state.stops.length - 1);
    const stop = state.stops[state.at];
    node.querySelector(".reading").textContent = stop.text;
    const at = (name) => {
      const scale = state.plot.scale(name);
      return scale.apply(stop[name]) + (scale.bandwidth ? scale.bandwidth / 2 : 0);
    };
    const box = state.plot.getBoundingClientRect();
    state.plot.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + at("x"), clientY: box.top + at("y"), pointerType: "mouse", bubbles: true }));
  };

  const all = drawn.figures.map((figure) => {
    const state = { shown: {}, at: -1, stops: [], plot: null, legend: "", width: 0 };
    const node = document.getElementById(figure.id);
    const place = node.querySelector(".plot");
    place.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      step(state, node, move);
    });
    return { figure, state, place };
  });

  // The answer of the chooser, then every paragraph that speaks of what is chosen.
  const told = [...document.querySelectorAll(".told")];
  const answer = () => {
    const key = Object.values(chosen).join("|");
    told.forEach((place, k) => {
      const parts = drawn.words[k][key].split(/(?<!\S)(--[a-z][a-z-]*)/); // options stay whole
      place.replaceChildren(...parts.map((part, i) => {
        if (i % 2 === 0) return part;
        const option = Object.assign(document.createElement("span"), { className: "whole" });
        option.textContent = part;
        return option;
      }));
    });
  };
  for (const input of document.querySelectorAll(".choices input")) {
    if (input.checked) chosen[input.name] = input.value;
    input.addEventListener("change", () => {
      chosen[input.name] = input.value;
      answer();
      for (const { figure, state } of all) if (figure.choices.length) draw(figure, state);
    });
  }
  answer();
  let printing = false;
  const fit = () => {
    if (printing) return;
    for (const { figure, state, place } of all) {
      if (place.clientWidth === state.width) continue;
      state.width = place.clientWidth;
      draw(figure, state);
    }
  };
  const scrolls = [...document.querySelectorAll(".sideways")];
  const hint = () => {
    for (const note of scrolls) {
      const table = note.nextElementSibling;
      note.hidden = table.scrollWidth <= table.clientWidth + 1;
    }
  };
  const folds = [...document.querySelectorAll("details")];
  for (const fold of folds) fold.addEventListener("toggle", hint);
  fit();
  hint();
  // Paper has a width of its own, nobody points at it, and nobody opens what is folded.
  let closed = [];
  addEventListener("beforeprint", () => {
    printing = true;
    closed = folds.filter((fold) => !fold.open);
    for (const fold of closed) fold.open = true;
    for (const { figure, state } of all) { state.width = 0; draw(figure, state, 700); }
  });
  addEventListener("afterprint", () => {
    printing = false;
    for (const fold of closed) fold.open = false;
    fit();
  });
  new ResizeObserver(() => requestAnimationFrame(() => { fit(); hint(); })).observe(document.body);

  const save = document.getElementById("save");
  save.hidden = false;
  save.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([document.getElementById("document").textContent], { type: "application/json" }));
    const link = make("a", { href: url, download: "afdplan.json" });
    link.click();
    URL.revokeObjectURL(url);
  });
  document.documentElement.dataset.drawn = "yes";
})();
