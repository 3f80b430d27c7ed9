// The page: the lists, the table and the charts, and what a click does to them.

// ---- the table: a body for each variant, so that its runs move and hide with it

// A key that says no more than the label is not said twice.
const isLabelKey = DATA.keys.length === 1 && DATA.variants.every(({ label, keys }) => label === keys[DATA.keys[0]]);
const KEYS = isLabelKey ? [] : DATA.keys;
const COLUMN_KEYS = new Set(DATA.columns.map((column) => column.key));
const HEADS = [
  { title: isLabelKey ? DATA.keys[0] : "variant", value: (variant) => variant.label },
  ...KEYS.map((key) => ({ title: key, value: (variant) => variant.keys[key] })),
  ...DATA.columns.map((column) => ({ ...column, isNumber: true, value: ({ cells }) => cells[column.key]?.value })),
];
const VIEWS = DATA.variants.map((variant) => {
  return { variant, body: makeBody(variant), words: searched(variant), isMatch: true };
});
let sorted = { head: null, isDescending: false };

function searched(variant) {
  const keys = Object.entries(variant.keys).map(([key, value]) => `${key}=${value}`);
  return [variant.label, ...keys].join("\n").toLowerCase();
}

function describe(column) {
  const better = column.better && `${column.better} is better`;
  return [column.help, better].filter(Boolean).join("; ");
}

function makeHead(head) {
  const unit = head.unit ? element("small", {}, ` ${head.unit}`) : null;
  const button = element("button", { title: describe(head) || null, onclick: () => sortBy(head) }, head.title, unit);
  head.cell = element("th", { scope: "col", class: head.isNumber && "number", "aria-sort": "none" }, button);
  return head.cell;
}

function makeBody(variant) {
  const count = variant.runs.length;
  const runs = element("small", {}, ` ${count} ${count === 1 ? "run" : "runs"}`);
  const label = element("span", { class: "label" }, variant.label);
  const fold = element("button", { class: "fold", "aria-expanded": "false" }, swatch(variant), label, runs);
  const keys = KEYS.map((key) => element("td", {}, variant.keys[key] ?? MISSING));
  const cells = DATA.columns.map((column) => {
    const { text, is_best: isBest } = variant.cells[column.key] ?? {};
    const cell = element("td", { class: "number" });
    const title = `better than every other by more than chance${column.better ? ` (${column.better} is better)` : ""}`;
    cell.append(isBest && text ? element("strong", { class: "best", title }, `★ ${text}`) : text || MISSING);
    return cell;
  });
  const body = element("tbody", {}, element("tr", {}, element("th", { scope: "row" }, fold), ...keys, ...cells));
  fold.addEventListener("click", () => {
    const isOpen = fold.getAttribute("aria-expanded") === "true";
    fold.setAttribute("aria-expanded", String(!isOpen));
    // Thousands of runs would make the page slow: they are in it only while they are looked at.
    if (isOpen) while (body.rows.length > 1) body.lastChild.remove();
    else body.append(...variant.runs.map(makeRun), makeReproduction(variant));
  });
  return body;
}

function makeRun(run) {
  // Each part of a path is encoded: a folder may hold `#` and `?`, and must never read as a scheme.
  const href = run.folder?.split("/").map(encodeURIComponent).join("/");
  const status = element("span", { class: run.status === "finished" ? null : "bad" }, run.status ?? "unknown");
  // What has no column of its own stands beside the name.
  const others = Object.entries(run.cells).filter(([key, text]) => text && !COLUMN_KEYS.has(key));
  const rest = others.map(([, text]) => `, ${text}`).join("");
  const facts = element("small", {}, ` ${isMissing(run.seed) ? "" : `seed ${run.seed}, `}`, status, rest);
  const name = element("th", { scope: "row" }, element("a", { href }, run.name), facts);
  const cells = DATA.columns.map((column) => element("td", { class: "number" }, run.cells[column.key]));
  return element("tr", { class: "run" }, name, KEYS.length ? element("td", { colspan: KEYS.length }) : null, ...cells);
}

function makeReproduction(variant) {
  const commands = variant.runs.map((run) => run.command).filter(Boolean);
  const lines = commands.map((command) => {
    const code = element("code", {}, command);
    return element("li", {}, copyButton("copy", `copy ${command}`, code), code);
  });
  const list = element("ol", {}, ...lines);
  const label = `copy all commands of ${variant.label}`;
  const all = commands.length > 1 ? copyButton("copy all", label, list, commands) : null;
  const what = commands.length ? "How to reproduce " : "How to reproduce: these runs kept no command.";
  const block = element("div", {}, element("b", {}, what), all, list);
  return element("tr", { class: "reproduce" }, element("td", { colspan: HEADS.length }, block));
}

function copyButton(title, label, node, lines = [node.textContent]) {
  const button = element("button", { "aria-label": label }, title);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(lines.join("\n"));
      button.textContent = "copied";
    } catch {
      // Some browsers keep the clipboard from a page that came without https: then the reader's own copy will do.
      getSelection().selectAllChildren(node);
      button.textContent = "press Ctrl+C";
    }
    setTimeout(() => (button.textContent = title), 1500);
  });
  return button;
}

/** Numbers by size and before texts, texts by the alphabet, missing values last whichever way. */
function compareValues(a, b, sign) {
  if (isMissing(a) || isMissing(b)) return isMissing(a) - isMissing(b);
  const [x, y] = [a, b].map((value) => (String(value).trim() === "" ? NaN : Number(value)));
  if (Number.isNaN(x) && Number.isNaN(y)) return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  if (Number.isNaN(x) || Number.isNaN(y)) return sign * (Number.isNaN(x) - Number.isNaN(y));
  return sign * (x - y);
}

function sortBy(head) {
  // The best comes first; a second click reverses.
  const isDescending = sorted.head === head ? !sorted.isDescending : head.better === "higher";
  sorted.head?.cell.setAttribute("aria-sort", "none");
  head.cell.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
  sorted = { head, isDescending };
  const sign = isDescending ? -1 : 1;
  const views = VIEWS.toSorted((a, b) => compareValues(head.value(a.variant), head.value(b.variant), sign));
  byId("table").append(...views.map((view) => view.body));
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/);
  for (const view of VIEWS) {
    view.isMatch = words.every((word) => view.words.includes(word));
    view.body.hidden = !view.isMatch;
  }
  const matches = VIEWS.filter((view) => view.isMatch).length;
  byId("count").value = `${matches} of ${VIEWS.length} variants`;
  for (const chart of CHARTS) chart.update();
}

// ---- the page

function list(id, sentences, lead) {
  byId(id).hidden = !sentences.length;
  const items = sentences.map((sentence) => element("li", {}, lead && element("b", {}, lead), sentence));
  byId(id).querySelector("ul").append(...items);
}

byId("summary").textContent = DATA.summary;
byId("made").textContent = `Made ${DATA.made} by convbench ${DATA.version}.`;
list("warnings", DATA.warnings, "Warning: ");
list("findings", DATA.findings);
byId("comparison").hidden = false;
const heads = element("thead", {}, element("tr", {}, ...HEADS.map(makeHead)));
byId("table").append(heads, ...VIEWS.map((view) => view.body));
const star = "better than every other by more than chance";
const meanings = HEADS.map((head) => [head.title, describe(head)]);
if (document.querySelector(".best")) meanings.push(["★", star]);
for (const [title, meaning] of meanings.filter(([, meaning]) => meaning)) {
  byId("meanings").hidden = false;
  byId("meanings").lastElementChild.append(element("dt", {}, title), element("dd", {}, meaning));
}
const CHARTS = DATA.charts.map((chart) => new Chart(chart, (index) => VIEWS[index].isMatch));
byId("charts").append(...CHARTS.map((chart) => chart.figure));
byId("filter").addEventListener("input", filter);
filter(); // draws the charts too, now that they know their width
let width = innerWidth;
addEventListener("resize", () => {
  // On a phone the bars of the browser come and go: that changes the height alone.
  if (innerWidth !== width) for (const chart of CHARTS) chart.draw();
  width = innerWidth;
});
