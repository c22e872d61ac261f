// Collect: names of classes in, photos arrive while one looks; or one's own are dropped.
import {html, useEffect, useState} from "./vendor/htm-preact.module.js";
import {ask, many, photoAt, useAnswer} from "./api.js";

const UPLOADS = 3;  // at once

export function Collect({say, work}) {
  const [state, refresh] = useAnswer("/api/collect", work, say);
  const searching = work.running && work.kind === "collect";
  useEffect(() => {
    if (!searching) return;
    const timer = setInterval(refresh, 700);
    return () => clearInterval(timer);
  }, [searching]);
  if (!state) return null;
  const done = work.kind === "collect" && !work.running && work.result.classes;
  return html`
    <div class="columns">
      <${Search} state=${state} say=${say} searching=${searching} />
      <${Own} state=${state} say=${say} refresh=${refresh} />
    </div>
    ${done && html`<section aria-label="What came"><ul class="plain">${done.map(one => html`<li key=${one.label}>
      <b>${one.label}</b>: ${many(one.new, "new photo")}${Object.entries(one.dropped).map(([why, count]) => `, ${count} ${why}`).join("")}
      ${one.stopped && `; there are not more: ${one.stopped}`}</li>`)}</ul></section>`}
    <section>
      <h2>Photos so far</h2>
      ${state.classes.length
        ? html`<ul class="counts">${state.classes.map(one => html`<li key=${one.label}><b>${one.photos}</b> ${one.label}</li>`)}</ul>
          <p class="quiet">The last that came first. <a href="#review">Review them</a>, with a classifier looking over your shoulder.</p>`
        : html`<p class="quiet">None yet: search for some, or drop your own.</p>`}
      <ul class="photos small" aria-label="The last photos">${state.last.map(one => html`<li key=${one.photo} class="photo">
        <img src=${photoAt(one, 160)} alt="" width="160" height="160" /><span class="label">${one.label}</span></li>`)}</ul>
    </section>`;
}

function Search({state, say, searching}) {
  const blank = {label: "", queries: ""};
  const [rows, setRows] = useState(() => [
    ...state.classes.map(one => ({label: one.label, queries: one.queries.join(", ")})), blank]);
  const [known, setKnown] = useState({});
  const [wanted, setWanted] = useState({per_class: 100, engine: state.engines[0], license: state.licenses[0], originals: false});
  const change = (number, part) => setRows(rows.map((row, i) => i === number ? {...row, ...part} : row).concat(
    number === rows.length - 1 && part.label ? blank : []));
  const look = label => label.trim() && !(label in known) && ask(`/api/collect/known?name=${encodeURIComponent(label.trim())}`)
    .then(found => setKnown(now => ({...now, [label]: found.known})), () => {});
  const set = part => setWanted({...wanted, ...part});
  function begin(event) {
    event.preventDefault();
    const named = rows.filter(row => row.label.trim());
    const classes = Object.fromEntries(named.map(row =>
      [row.label.trim(), row.queries.split(",").map(text => text.trim()).filter(Boolean)]));
    ask("/api/collect", {...wanted, classes}).catch(error => say(error.message));
  }
  return html`<form onSubmit=${begin}>
    <h2>Search for photos</h2>
    <table class="form"><thead><tr><th scope="col">Class</th><th scope="col">Also search for</th></tr></thead>
      <tbody>${rows.map((row, i) => html`<tr key=${i}>
        <td><input aria-label=${`Class ${i + 1}`} value=${row.label} placeholder=${i ? "" : "apple pie"} onBlur=${() => look(row.label)}
          onInput=${event => change(i, {label: event.target.value})} /></td>
        <td><input aria-label=${`Further queries of class ${i + 1}`} value=${row.queries} placeholder=${i ? "" : "apple pie slice, tarte aux pommes"}
          onInput=${event => change(i, {queries: event.target.value})} /></td>
      </tr>`)}</tbody></table>
    ${rows.map(row => known[row.label] && html`<p key=${row.label} class="warning">${known[row.label]}</p>`)}
    <p class="fields">
      <label>Photos a class <input type="number" min="1" max="2000" value=${wanted.per_class}
        onInput=${event => set({per_class: Number(event.target.value)})} /></label>
      <label>From <select value=${wanted.engine} onChange=${event => set({engine: event.target.value})}>
        ${state.engines.map(name => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <label>Licence <select value=${wanted.license} onChange=${event => set({license: event.target.value})}>
        ${state.licenses.map(name => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      <label class="check"><input type="checkbox" checked=${wanted.originals} onChange=${event => set({originals: event.target.checked})} />
        originals, not thumbnails</label>
    </p>
    <button class="main" disabled=${searching}>${state.classes.length ? "Top up" : "Search"}</button>
    <p class="quiet">Photos that came stay; called again, a class is topped up to the number above.</p>
  </form>`;
}

// One's own photos go in one by one, through the same decoder as all others.
function Own({state, say, refresh}) {
  const [label, setLabel] = useState("");
  const [told, setTold] = useState(null);
  async function bring(files) {
    const named = files.map(([file, folder]) => [file, folder || label.trim()]);
    if (named.some(([, name]) => !name)) { say("Which class are these photos of? Type it below, or drop a folder of that name."); return; }
    const count = {done: 0, all: named.length, fresh: 0, refused: []};
    const waiting = [...named];
    const one = async () => {
      for (let next; (next = waiting.shift());) {
        const [file, name] = next;
        await ask(`/api/collect/photos?${new URLSearchParams({label: name, name: file.name})}`, file)
          .then(answer => { count.fresh += answer.new; }, error => count.refused.push(error.message));
        count.done += 1;
        setTold({...count});
      }
    };
    setTold({...count});
    await Promise.all(Array.from({length: UPLOADS}, one));
    refresh();
  }
  async function drop(event) {
    event.preventDefault();
    const entries = [...event.dataTransfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...event.dataTransfer.files].map(file => [file, ""]);
    bring(entries.length ? (await Promise.all(entries.map(entry => filesIn(entry, "")))).flat() : plain);
  }
  function chosen(event) {
    const files = [...event.target.files].filter(file => !file.name.startsWith("."));
    bring(files.map(file => [file, file.webkitRelativePath.split("/").at(-2)]));
    event.target.value = "";  // the same ones may be chosen again
  }
  return html`<div>
    <h2>Or bring your own</h2>
    <div class="drop" onDrop=${drop} onDragOver=${event => event.preventDefault()}>
      <p>Drop photos, or folders: a folder's name is the class of the photos in it.</p>
      <p class="fields"><label>Class of single photos <input list="classes" value=${label} onInput=${event => setLabel(event.target.value)} /></label>
        <datalist id="classes">${state.classes.map(one => html`<option key=${one.label} value=${one.label} />`)}</datalist></p>
      <p class="fields"><label class="button">Choose photos <input type="file" multiple accept="image/*" onChange=${chosen} /></label>
        <label class="button">Choose a folder <input type="file" webkitdirectory onChange=${chosen} /></label></p>
    </div>
    ${told && html`<div aria-live="polite">
      <progress aria-label="Photos brought in" max=${told.all} value=${told.done}></progress>
      <p>${many(told.fresh, "new photo")}, ${told.done - told.fresh - told.refused.length} here before, ${told.refused.length} refused; ${told.done} of ${told.all} looked at</p>
      ${told.refused.length > 0 && html`<details><summary>Refused</summary><ul>${told.refused.map((why, i) => html`<li key=${i}>${why}</li>`)}</ul></details>`}
    </div>`}
  </div>`;
}

// All files below an entry that was dropped, each with the name of its folder.
async function filesIn(entry, folder) {
  if (entry.isFile) return [[await new Promise((done, fail) => entry.file(done, fail)), folder]];
  const reader = entry.createReader(), found = [];
  for (let some; (some = await new Promise((done, fail) => reader.readEntries(done, fail))).length;) found.push(...some);
  return (await Promise.all(found.filter(one => !one.name.startsWith(".")).map(one => filesIn(one, entry.name)))).flat();
}
