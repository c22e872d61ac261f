// Review: all photos, the least fitting first; every key does its work at once and the live head says what it did.
import {html, useEffect, useLayoutEffect, useMemo, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, listen, percent} from "./api.js";

const KEYS = "Arrows: go · x: set aside · 1 to 9: move to a class · u: undo · /: filter";

export function Review({say}) {
  const [state, setState] = useState(null);
  const [stage, setStage] = useState(null);
  const [filter, setFilter] = useState("");
  const [rule, setRule] = useState("");
  const [active, setActive] = useState("");  // key of the photo that keys act on
  const waiting = useRef([]);  // decisions that the server has not answered yet
  const grid = useRef(null), box = useRef(null), busy = useRef(Promise.resolve());
  const current = useRef("");  // the same at once: keys may come faster than the page is drawn

  useEffect(() => {
    const stop = listen(setStage);
    ask("/api/review").then(setState, error => say(error.message)).finally(stop);
    return stop;
  }, []);

  const shown = useMemo(() => state ? order(state, filter, rule) : [], [state, filter, rule]);
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
  if (!state) return html`<p>${stage?.stage ? `${stage.stage}: ${stage.done} of ${stage.total}` : "Opening the review …"}</p>`;

  // The photo leaves at once; what the head says comes when it comes, in order.
  function decide(photo, label) {
    if (!photo || label === photo.label) return;
    const at = shown.indexOf(photo), decision = {key: photo.key, label};
    if (!label) go(shown[at + 1] ?? shown[at - 1]);
    waiting.current.push(decision);
    setState(now => after(now, [decision]));
    say(`${photo.name}: ${label ? `moved to ${label}` : "set aside"}`);
    send("/api/decisions", decision).finally(() => waiting.current.shift());
  }
  const undo = () => send("/api/undo", {}, () => say("taken back"));
  function send(path, body, done = () => {}) {
    busy.current = busy.current.then(() => ask(path, body)).then(answer => {
      const open = path === "/api/undo" ? waiting.current : waiting.current.slice(1);
      setState(now => after({...now, ...answer}, open));
      done();
    }).catch(error => {
      say(error.message);
      waiting.current = [];
      return ask("/api/review").then(setState, () => {});
    });
    return busy.current;
  }
  function press(event) {
    if (!state || event.ctrlKey || event.metaKey || event.altKey || event.target.matches?.("input, select")) return;
    const moves = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns(grid.current), ArrowUp: -columns(grid.current)};
    const number = Number(event.key), here = place();
    if (moves[event.key]) go(shown[Math.max(0, Math.min(shown.length - 1, here + moves[event.key]))]);
    else if (event.key === "x") decide(shown[here], "");
    else if (number >= 1 && number <= state.classes.length) decide(shown[here], state.classes[number - 1]);
    else if (event.key === "u") undo();
    else if (event.key === "/") box.current.focus();
    else return;
    event.preventDefault();
  }
  const rules = [...new Set(state.photos.flatMap(photo => photo.reasons.map(one => one.rule)))];
  return html`
    <${Figures} state=${state} />
    <div class="bar">
      <label>Filter <input ref=${box} value=${filter} onInput=${event => setFilter(event.target.value)}
        onKeyDown=${event => event.key === "Escape" && grid.current.children[0]?.focus()} /></label>
      <label>Finding <select value=${rule} onChange=${event => setRule(event.target.value)}>
        <option value="">all photos</option>
        ${rules.map(name => html`<option key=${name} value=${name}>${name}</option>`)}
      </select></label>
      <button onClick=${undo}>Undo</button>
      <span class="quiet">${shown.length} photos. ${KEYS}</span>
    </div>
    <ul class="photos" ref=${grid} aria-label="Photos, the least fitting first">
      ${shown.map((photo, i) => html`<${Photo} key=${photo.key} photo=${photo} active=${i === place()}
        classes=${state.classes} suspicion=${state.suspicion[photo.key]}
        choose=${() => go(photo)} decide=${label => decide(photo, label)} />`)}
    </ul>`;
}

function Photo({photo, active, classes, suspicion, choose, decide}) {
  const reasons = photo.reasons.map(one => one.reason).join("; ");
  return html`
    <li tabindex=${active ? 0 : -1} class=${active ? "photo active" : "photo"} onClick=${choose}
        aria-label=${`${photo.label}, ${photo.name}${reasons ? `: ${reasons}` : ""}`}>
      <img src=${`/photos/${photo.key}`} alt="" loading="lazy" width="160" height="160" />
      <span class="label">${photo.label}</span>
      ${reasons && html`<span class="reason">${reasons}</span>`}
      ${suspicion > 0 && html`<span class="badge">the live head sees another class</span>`}
      ${active && html`<span class="actions">
        <button tabindex="-1" onClick=${event => { event.stopPropagation(); decide(""); }}>Set aside</button>
        ${photo.suggested && photo.suggested !== photo.label && html`
          <button tabindex="-1" onClick=${event => { event.stopPropagation(); decide(photo.suggested); }}>
            ${`${classes.indexOf(photo.suggested) + 1}: ${photo.suggested}`}</button>`}
      </span>`}
    </li>`;
}

function Figures({state}) {
  const {effect, classes, confusion} = state, change = effect?.all, last = effect?.last;
  return html`
    <section class="figures" aria-label="Live head">
      <div>
        <p class="large">${change ? html`${percent(change.before)} → <b>${percent(change.now)}</b>` : html`<b>${percent(state.accuracy)}</b>`}</p>
        <p>${change
          ? `on the ${change.n} photos that are in both; ${tested(change.test)} since the review was opened, ${tested(last.test)} by the last decision`
          : `of ${state.n} photos, each by a head that has not seen it`}</p>
        <p class="quiet">A live head (ridge regression, cross-validated), not the model that is saved.
          ${change && ` All ${change.n_now} photos that count now: ${percent(change.all_now)}; ${change.n_before - change.n_now} are left out.`}</p>
      </div>
      <table><caption>True class in rows, seen in columns</caption>
        <thead><tr><td></td>${classes.map((name, i) => html`<th key=${name} scope="col" title=${name}>${i + 1}</th>`)}</tr></thead>
        <tbody>${confusion.map((row, i) => html`<tr key=${classes[i]}><th scope="row">${`${i + 1} ${classes[i]}`}</th>
          ${row.map((count, j) => html`<td key=${j} class=${i === j ? "right" : count ? "wrong" : "none"}>${count}</td>`)}</tr>`)}</tbody>
      </table>
    </section>`;
}

const tested = test => `+${test.gained} −${test.lost} (p ${test.p < 0.001 ? test.p.toExponential(0) : test.p.toFixed(2)})`;

// The state once decisions are carried out.
function after(state, decisions) {
  const labels = new Map(decisions.map(one => [one.key, one.label]));
  const moved = photo => labels.has(photo.key) ? {...photo, label: labels.get(photo.key), reasons: [], suggested: ""} : photo;
  return {...state, photos: state.photos.map(moved).filter(photo => photo.label)};
}

// Photos with a finding first, then by how much another class is seen in them; what does not count by its finding.
function order(state, filter, rule) {
  const wanted = filter.trim().toLowerCase();
  const doubt = photo => (photo.reasons.length ? 10 : 0) + (state.suspicion[photo.key] ?? photo.strength);
  return state.photos
    .filter(photo => !rule || photo.reasons.some(one => one.rule === rule))
    .filter(photo => !wanted || `${photo.label}/${photo.name}`.toLowerCase().includes(wanted))
    .sort((a, b) => doubt(b) - doubt(a));
}

// How many photos stand in a row.
function columns(grid) {
  const tops = [...grid.children].map(item => item.offsetTop);
  const first = tops.findIndex(top => top !== tops[0]);
  return first < 0 ? tops.length : first;
}
