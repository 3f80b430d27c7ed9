"use strict";
// Everything is drawn from the JSON that stands in the page. Texts become text nodes, never HTML.

const DATA = JSON.parse(document.getElementById("data").textContent);
const MISSING = "-";
const byId = (id) => document.getElementById(id);
const isMissing = (value) => value === null || value === undefined;

function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && !isMissing(value)) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => !isMissing(child)));
  return node;
}

// ---- how a variant looks: colour, dash and marker, so that grey paper tells them apart too

const MARKERS = {
  circle: (x, y) => `M${x - 3.5} ${y}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z`,
  square: (x, y) => `M${x - 3.2} ${y - 3.2}h6.4v6.4h-6.4z`,
  triangle: (x, y) => `M${x} ${y - 4.4}l4.2 7.4h-8.4z`,
  "triangle-down": (x, y) => `M${x} ${y + 4.4}l4.2 -7.4h-8.4z`,
  diamond: (x, y) => `M${x} ${y - 4.8}l4.4 4.8l-4.4 4.8l-4.4 -4.8z`,
  cross: (x, y) => `M${x - 3.2} ${y - 3.2}l6.4 6.4m0 -6.4l-6.4 6.4`,
  plus: (x, y) => `M${x - 4.2} ${y}h8.4m-4.2 -4.2v8.4`,
};

function marks(variant, places) {
  const draw = MARKERS[variant.marker] ?? MARKERS.circle;
  const isOpen = variant.marker === "cross" || variant.marker === "plus";
  return svg("path", { class: isOpen ? "mark open" : "mark", d: places.map(([x, y]) => draw(x, y)).join("") });
}

/** Take the colour of a variant on; the style sheet fits it to the page. */
function ink(node, variant) {
  node.classList.add("ink");
  node.style.setProperty("--given", variant.color);
  return node;
}

function swatch(variant) {
  const line = svg("path", { class: "line", d: "M1 6h32", "stroke-dasharray": variant.dash });
  const attributes = { class: "swatch", viewBox: "0 0 34 12", "aria-hidden": "true" };
  return ink(svg("svg", attributes, line, marks(variant, [[17, 6]])), variant);
}
