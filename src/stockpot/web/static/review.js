// Review: all photos, the least fitting first; every key does its work at once and the live head says what it did.
import {html, useEffect, useLayoutEffect, useMemo, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, many, percent, useAnswer} from "./api.js";

const KEYS = [["← → ↑ ↓", "go"], ["x", "set aside"], ["1 … 9", "move to a class"], ["u", "undo"], ["Enter", "look closer"], ["/", "filter"]];
const thumbnail = (photo, side = 160) => `/api/review/photos/${photo.key}?side=${side}`;

export function Review({say, work}) {
  const [state, , setState] = useAnswer("/api/review", work, say);
  const [filter, setFilter] = useState("");
  const [rule, setRule] = useState("");
  const [label, setLabel] = useState("");
  const [active, setActive] = useState("");  // key of the photo that keys act on
  const [close, setClose] = useState(null);  // the photo that is looked at closely
  const waiting = useRef([]);  // decisions that the server has not answered yet
  const grid = useRef(null), box = useRef(null), busy = useRef(Promise.resolve());
  const current = useRef("");  // the same as `active` at once: keys may come faster than the page is drawn

  const shown = useMemo(() => state ? order(state, filter, rule, label) : [], [state, filter, rule, label]);
  const place = () => Math.max(0, shown.findIndex(photo => photo.key === current.current));
  const go = photo => { current.current = photo?.key ?? ""; setActive(current.current); };
  useEffect(() => {
    const focused = document.activeElement;
    if (focused === document.body || grid.current?.contains(focused)) grid.current?.children[place()]?.focus();
  }, [active, shown]);
  useLayoutEffect(() => {  // on the page: a photo that has just gone has taken the focus with it
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  if (!state) return null;

  // The photo leaves at once; what the head says comes when it comes, in order.
  function decide(photo, to) {
    if (!photo || to === photo.label) return;
    const at = shown.indexOf(photo), decision = {key: photo.key, label: to};
    if (!to) go(shown[at + 1] ?? shown[at - 1]);
    waiting.current.push(decision);
    setState(now => after(now, [decision]));
    say(`${photo.name}: ${to ? `moved to ${to}` : "set aside"}`);
    send("/api/review/decisions", decision);
  }
  const undo = () => send("/api/review/undo", {}, () => say("taken back"));
  function send(path, body, done = () => {}) {
    const answered = () => { waiting.current = waiting.current.filter(one => one !== body); };
    busy.current = busy.current.then(() => ask(path, body)).then(answer => {
      answered();
      setState(now => after({...now, ...answer}, waiting.current));
      done();
    }).catch(error => {  // this one was not carried out; those after it are still to come
      answered();
      say(error.message);
      return ask("/api/review").then(found => found.waiting || setState(after(found, waiting.current)), () => {});
    });
  }
  function press(event) {
    if (close || event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, select, textarea")) return;
    const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(grid.current), ArrowUp: -columns(grid.current)};
    const number = Number(event.key), here = place();
    if (moves[event.key]) go(shown[Math.max(0, Math.min(shown.length - 1, here + moves[event.key]))]);
    else if (event.key === "x") decide(shown[here], "");
    else if (number >= 1 && number <= state.classes.length) decide(shown[here], state.classes[number - 1]);
    else if (event.key === "u") undo();
    else if (event.key === "/") box.current.focus();
    else if (event.key === "Enter" && !event.target.matches?.("button, a")) setClose(shown[here] ?? null);
    else return;
    event.preventDefault();
  }
  const rules = count(state.photos.flatMap(photo => [...new Set(photo.reasons.map(one => one.rule))]));
  const labels = count(state.photos.map(photo => photo.label));
  return html`
    <${Figures} state=${state} />
    <div class="bar">
      <label>Filter <input ref=${box} value=${filter} placeholder="name or class" onInput=${event => setFilter(event.target.value)}
        onKeyDown=${event => event.key === "Escape" && grid.current.children[0]?.focus()} /></label>
      <label>Class <select value=${label} onChange=${event => setLabel(event.target.value)}>
        <option value="">all</option>${[...labels].map(([name, n]) => html`<option key=${name} value=${name}>${`${name} (${n})`}</option>`)}</select></label>
      <label>Finding <select value=${rule} onChange=${event => setRule(event.target.value)}>
        <option value="">all photos</option>${[...rules].map(([name, n]) => html`<option key=${name} value=${name}>${`${name} (${n})`}</option>`)}</select></label>
      <button onClick=${undo}>Undo</button>
      <span class="quiet">${many(shown.length, "photo")}</span>
      <span class="keys quiet">${KEYS.map(([key, words]) => html`<span key=${key}><kbd>${key}</kbd> ${words}</span>`)}</span>
    </div>
    <ul class="photos" ref=${grid} aria-label="Photos, the least fitting first">
      ${shown.map((photo, i) => html`<${Photo} key=${photo.key} photo=${photo} active=${i === place()}
        classes=${state.classes} suspicion=${state.suspicion[photo.key]}
        choose=${() => go(photo)} look=${() => setClose(photo)} decide=${to => decide(photo, to)} />`)}
    </ul>
    ${close && html`<${Closer} photo=${close} leave=${() => setClose(null)} />`}`;
}

function Photo({photo, active, classes, suspicion, choose, look, decide}) {
  const reasons = photo.reasons.map(one => one.reason).join("; ");
  const act = work => event => { event.stopPropagation(); work(event); };
  return html`
    <li tabindex=${active ? 0 : -1} class=${active ? "photo active" : "photo"} onClick=${choose} onDblClick=${look} aria-current=${active ? "true" : null}
        aria-label=${`${photo.label}, ${photo.name}${reasons ? `: ${reasons}` : ""}`}>
      <img src=${thumbnail(photo)} alt="" loading="lazy" width="160" height="160" />
      <span class="label">${photo.label}</span>
      ${photo.reasons.map(one => html`<span key=${one.rule} class="reason" title=${one.reason}><span class="badge">${one.rule}</span> ${one.reason}</span>`)}
      ${!reasons && suspicion > 0 && html`<span class="reason"><span class="badge soft">another class?</span></span>`}
      ${active && html`<span class="actions">
        <button onClick=${act(() => decide(""))}>Set aside</button>
        <select aria-label="Move to" onClick=${act(() => {})} onChange=${act(event => decide(event.target.value))}>
          <option value="">Move to …</option>
          ${classes.map((name, i) => name !== photo.label && html`<option key=${name} value=${name}>${`${i + 1} ${name}${name === photo.suggested ? " (suggested)" : ""}`}</option>`)}
        </select>
      </span>`}
    </li>`;
}

function Closer({photo, leave}) {
  const dialog = useRef(null);
  useEffect(() => dialog.current.showModal(), []);
  return html`<dialog ref=${dialog} onClose=${leave} aria-label=${`${photo.label}, ${photo.name}`}>
    <p class="fields spread"><b>${photo.label}/${photo.name}</b> <button onClick=${() => dialog.current.close()}>Close</button></p>
    <img class="wide" src=${thumbnail(photo, 1024)} alt=${`${photo.label}, ${photo.name}`} />
    ${photo.reasons.map(one => html`<p key=${one.rule}><span class="badge">${one.rule}</span> ${one.reason}</p>`)}
  </dialog>`;
}

function Figures({state}) {
  const {effect, classes, confusion} = state, change = effect?.all, last = effect?.last;
  return html`
    <section class="figures" aria-label="Live head">
      <div>
        <p class="large">${change ? html`${percent(change.before)} → <b>${percent(change.now)}</b>` : html`<b>${percent(state.accuracy)}</b>`}</p>
        <p>${change
          ? `on the ${change.n} photos that are in both; ${tested(change.test)} since the review was opened${last ? `, ${tested(last.test)} by the last decision` : ""}`
          : `of ${state.n} photos, each by a head that has not seen it`}</p>
        <p class="quiet">A live head (ridge regression, cross-validated), not the model that is saved.
          ${change && ` All ${change.n_now} photos that count now: ${percent(change.all_now)}; ${change.n_before - change.n} are left out.`}</p>
      </div>
      <div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table><caption>True class in rows, seen in columns</caption>
        <thead><tr><td></td>${classes.map((name, i) => html`<th key=${name} scope="col" title=${name}>${i + 1}</th>`)}</tr></thead>
        <tbody>${confusion.map((row, i) => html`<tr key=${classes[i]}><th scope="row">${`${i + 1} ${classes[i]}`}</th>
          ${row.map((n, j) => html`<td key=${j} class=${i === j ? "right" : n ? "wrong" : "none"}>${n}</td>`)}</tr>`)}</tbody>
      </table></div>
    </section>`;
}

const tested = test => `+${test.gained} −${test.lost} (p ${test.p < 0.001 ? test.p.toExponential(0) : test.p.toFixed(2)})`;

// How often each value is there, by its name.
function count(values) {
  const found = new Map();
  for (const value of [...values].sort()) found.set(value, (found.get(value) ?? 0) + 1);
  return found;
}

// The state once decisions are carried out.
function after(state, decisions) {
  const labels = new Map(decisions.map(one => [one.key, one.label]));
  const moved = photo => labels.has(photo.key) ? {...photo, label: labels.get(photo.key), reasons: [], suggested: ""} : photo;
  return {...state, photos: state.photos.map(moved).filter(photo => photo.label)};
}

// Photos with a finding first, the strongest first; then by how much of another class the live head sees in them.
function order(state, filter, rule, label) {
  const wanted = filter.trim().toLowerCase();
  const doubt = photo => photo.reasons.length ? 10 + photo.strength : state.suspicion[photo.key] ?? -10;
  return state.photos
    .filter(photo => !rule || photo.reasons.some(one => one.rule === rule))
    .filter(photo => !label || photo.label === label)
    .filter(photo => !wanted || `${photo.label}/${photo.name}`.toLowerCase().includes(wanted))
    .sort((a, b) => doubt(b) - doubt(a));
}

// How many photos stand in a row.
function columns(grid) {
  const tops = [...grid.children].map(item => item.offsetTop);
  const first = tops.findIndex(top => top !== tops[0]);
  return first < 0 ? tops.length : first;
}
