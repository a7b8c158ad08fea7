// The trajectory drawn beside the talk, in words too; and the voice for readers of a screen, in whole sentences.
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg", WIDTH = 280, HEIGHT = 170, LEFT = 44, RIGHT = 14, TOP = 16, BOTTOM = 24;
let spoken = 0;

function add(parent, name, attributes, content) {
  const element = document.createElementNS(SVG, name);
  for (const [k, v] of Object.entries(attributes)) element.setAttribute(k, v);
  if (content !== undefined) element.textContent = content;
  parent.append(element);
  return element;
}

const percent = (value) => Math.round(value * 100);

function points(said) {
  const valued = said.map((one, k) => ({ k, value: one.shown.valence ?? null })).filter((p) => p.value !== null && said[p.k].shown.kind !== "crisis"); // a fixed text has no mood
  const values = valued.map((p) => p.value);
  const low = Math.max(0, Math.min(0.4, ...values) - 0.05), high = Math.min(1, Math.max(0.6, ...values) + 0.05);
  const x = (k) => LEFT + ((WIDTH - LEFT - RIGHT) * (k + 0.5)) / Math.max(said.length, 2);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  return valued.map((p) => ({ ...p, x: x(p.k), y: y(p.value), middle: y(0.5) }));
}

function drawPlot(said, words) {
  const all = points(said), sides = { user: all.filter((p) => p.k % 2 === 0), agent: all.filter((p) => p.k % 2) };
  const { user, agent } = sides;
  const form = agent.length ? words.mood_alt : words.mood_alt_user;
  const label = user.length
    ? form.replace("{first}", percent(user[0].value)).replace("{last}", percent(user.at(-1).value)).replace("{agent}", agent.length ? percent(agent.at(-1).value) : "")
    : words.mood_alt_none;
  const svg = document.createElementNS(SVG, "svg");
  for (const [k, v] of Object.entries({ class: "plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label })) svg.setAttribute(k, v);
  const middle = all.length ? all[0].middle : HEIGHT / 2;
  add(svg, "line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: middle, y2: middle });
  add(svg, "text", { x: 6, y: TOP + 8 }, words.bright);
  add(svg, "text", { x: 6, y: HEIGHT - BOTTOM }, words.dark);
  for (const [side, found] of Object.entries(sides)) {
    const group = add(svg, "g", { class: side });
    if (found.length > 1) add(group, "path", { d: "M" + found.map((p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("L") });
    for (const p of found)
      if (side === "user") add(group, "circle", { cx: p.x, cy: p.y, r: 4 });
      else add(group, "rect", { x: p.x - 3.6, y: p.y - 3.6, width: 7.2, height: 7.2 });
  }
  $("plot").replaceChildren(svg);
  $("mood-empty").hidden = all.length > 0;
}

function fillTable(said, words) {
  const rows = said.map((one, k) => {
    const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
    head.scope = "row";
    head.textContent = `${k + 1} ${k % 2 ? words.agent : words.you}`;
    cell.textContent = one.shown.valence === undefined || one.shown.valence === null ? words.no_value : percent(one.shown.valence);
    row.append(head, cell);
    return row;
  });
  $("values").querySelector("tbody").replaceChildren(...rows);
  $("values").hidden = rows.length === 0;
}

/** Draw the trajectory and say the stage of guidance, which a crisis has switched off, and the start emotion. */
export function drawMood(said, words, hadCrisis) {
  drawPlot(said, words);
  fillTable(said, words);
  const staged = hadCrisis ? { stage: "off" } : said.findLast((one) => one.shown.stage)?.shown;
  $("stage").textContent = words[`stage_${staged ? staged.stage : "none"}`];
  const weight = staged?.weight ?? null;
  $("meter").hidden = weight === null;
  if (weight !== null) $("meter").querySelector("meter").value = -weight;
  const emotion = said.length ? said[0].shown.emotion : null;
  const [name, p] = emotion ? Object.entries(emotion).reduce((a, b) => (b[1] > a[1] ? b : a)) : ["none", 0];
  $("begin").textContent = words[`begin_${name}`].replace("{p}", percent(p));
}

/** Say what is new and complete of a response to readers of a screen. */
export function announce(given, isWhole = false) {
  const fresh = given.slice(spoken), ends = [...fresh.matchAll(/[.!?。！？\n]+(?=\s|$|[^\x00-\x7f])\s*/g)];
  const end = isWhole ? fresh.length : ends.length ? ends.at(-1).index + ends.at(-1)[0].length : 0;
  if (!end) return;
  const sentence = document.createElement("p");
  sentence.textContent = fresh.slice(0, end);
  if (sentence.textContent.trim()) $("live").append(sentence);
  spoken += end;
}

/** Begin a new response. */
export function clearVoice() {
  spoken = 0;
  $("live").replaceChildren();
}
