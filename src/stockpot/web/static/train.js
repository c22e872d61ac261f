// Train: a recipe, how long it will take here, its curves while it learns, and what came of it.
import {html, useEffect, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, between, many, percent, useAnswer} from "./api.js";
import {Chart} from "./chart.js";

const RECIPES = {
  probe: ["Borrow from ImageNet", "A large network, frozen; only a new last layer learns. The best start."],
  tail: ["Fine-tune the last blocks", "Goes on from a trained head; most of the network stays frozen."],
  tuned: ["Fine-tune all layers", "Goes on from a trained head at a tenth of the learning rate. The slowest."],
  cifar: ["Borrow from CIFAR-10", "A small network at 32 × 32 pixels, frozen; only a new last layer learns."],
  scratch: ["From scratch", "A small network at 32 × 32 pixels, nothing borrowed. For comparison."],
};

export function Train({say, work}) {
  const [state] = useAnswer("/api/train", work, say);
  const [chosen, setChosen] = useState("");
  const [start, setStart] = useState("");
  const [changes, setChanges] = useState({});
  const [name, setName] = useState("");
  const [forecast, setForecast] = useState(null);  // {of, number}
  const order = {recipe: chosen, start, changes, name}, key = JSON.stringify(order);
  const post = (path, body) => ask(path, body).catch(error => say(error.message));
  if (!state) return null;
  if (state.problem) return html`<p>${state.problem} <a href="#collect">Collect photos</a></p>`;

  const offer = state.recipes.find(one => one.name === chosen);
  const measuring = work.running && work.kind === "forecast";
  const known = forecast?.of === key && work.number === forecast.number && work.result.words;
  const measure = wanted => post("/api/train/forecast", wanted).then(begun => begun && setForecast({of: JSON.stringify(wanted), number: begun.number}));
  function choose(recipe) {
    setChosen(recipe);
    setChanges({});
    setStart("");
    say("");
    if (!work.running) measure({recipe, start: "", changes: {}, name});
  }
  const learning = work.kind === "train" && (work.running || work.epochs > 0);
  return html`
    <div class="columns">
      <section>
        <h2>Recipes</h2>
        <p class="quiet">${state.classes.map(one => `${one.training} + ${one.validation} ${one.name}`).join(", ")}: photos to learn from + to measure on.</p>
        <div class="recipes" role="radiogroup" aria-label="Recipes">${Object.entries(RECIPES).map(([recipe, [title, words]]) => {
          const problem = state.recipes.find(one => one.name === recipe).problem;
          return html`<label key=${recipe} class=${chosen === recipe ? "card chosen" : "card"}>
            <input type="radio" name="recipe" value=${recipe} checked=${chosen === recipe} disabled=${Boolean(problem)} onChange=${() => choose(recipe)} />
            <b>${title}</b><span>${words}</span>${problem && html`<span class="warning">${problem}</span>`}</label>`;
        })}</div>
        ${offer && html`<div class="order">
          <details><summary>All choices</summary>
            <p class="fields">
              <label>Name of the run <input value=${name} placeholder=${offer.usual_name} onInput=${event => setName(event.target.value)} /></label>
              ${["tail", "tuned"].includes(chosen) && html`<label>Goes on from <select value=${start} onChange=${event => setStart(event.target.value)}>
                <option value="">${state.probe}</option>${state.starts.map(one => html`<option key=${one} value=${one}>${one}</option>`)}</select></label>`}
              ${Object.entries(offer.fields).map(([field, value]) => html`<${Field} key=${chosen + field} field=${field} value=${changes[field] ?? value}
                choices=${state.choices[field]} set=${given => setChanges(now => ({...now, [field]: given}))} />`)}
            </p>
          </details>
          <p class="fields">
            <button class="main" disabled=${work.running && !measuring} onClick=${() => post("/api/train", order)}>Train</button>
            <button disabled=${work.running} onClick=${() => measure(order)}>How long will it take?</button>
            <span aria-live="polite">${measuring ? "Measuring a few steps …" : known ? (work.result.seconds ? work.result.words : "Nothing to do: this run is there.") : ""}</span>
          </p>
        </div>`}
      </section>
      <section>
        <h2>${learning ? work.title : "Curves"}</h2>
        ${learning ? html`<${Curves} work=${work} />` : html`<p class="quiet">Drawn while a recipe learns. You may close this page meanwhile: the training goes on.</p>`}
      </section>
    </div>
    <section>
      <h2>Runs</h2>
      ${state.runs.length === 0 && state.unfinished.length === 0 && html`<p class="quiet">None yet.</p>`}
      ${state.runs.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table>
        <thead><tr><th scope="col">run</th><th scope="col" class="words">recipe</th><th scope="col">accuracy</th><th scope="col">95 % interval</th><th scope="col">photos</th>
          <th scope="col">epoch kept</th><th scope="col">seconds</th><th scope="col" class="words">state</th></tr></thead>
        <tbody>${state.runs.map(run => html`<tr key=${run.name}><th scope="row">${run.name}</th><td class="words">${run.kind}</td><td>${percent(run.accuracy)}</td>
          <td>${between(run.interval)}</td><td>${run.n}</td><td>${`${run.chosen_epoch} of ${run.epochs}`}</td><td>${run.seconds.toFixed(0)}</td>
          <td class="words">${run.stale ? "stale: the photos have changed since" : run.interrupted
            ? html`stopped early <button disabled=${work.running} onClick=${() => post("/api/train/again", {name: run.name})}>Go on</button>` : "complete"}</td></tr>`)}</tbody>
      </table></div>`}
      ${state.unfinished.length > 0 && !(work.running && work.kind === "train") && html`<ul class="plain">${state.unfinished.map(run => html`<li key=${run}>
        <b>${run}</b> was ended before it was complete. <button disabled=${work.running} onClick=${() => post("/api/train/again", {name: run})}>Go on</button></li>`)}</ul>`}
      ${state.runs.length > 0 && html`<p><a href="#results">Look at the results</a></p>`}
    </section>`;
}

function Field({field, value, choices, set}) {
  const title = field.replaceAll("_", " ");
  const change = event => set(event.target.value);
  return html`<label>${title} ${choices
    ? html`<select value=${value} onChange=${change}>${choices.map(one => html`<option key=${one} value=${one}>${one}</option>`)}</select>`
    : html`<input value=${value} inputmode=${typeof value === "number" ? "decimal" : null} onInput=${change} />`}</label>`;
}

// Curves are asked for and drawn one after another, however fast epochs are.
function Curves({work}) {
  const [specs, setSpecs] = useState({});
  const drawn = useRef(""), asking = useRef(false), now = `${work.number}/${work.epochs}`;
  useEffect(() => {
    if (asking.current || drawn.current === now) return;
    asking.current = true;
    drawn.current = now;
    ask("/api/train/curves").then(setSpecs, () => {}).finally(() => setTimeout(() => {
      asking.current = false;
      setSpecs(some => ({...some}));  // look again: epochs may have come meanwhile
    }, 1000));
  }, [now, specs]);
  const run = !work.running && work.result.run;
  return html`
    <p role="status">${run ? html`<b>${percent(run.accuracy)}</b> of ${run.n} photos it has not learned from (95 % interval ${between(run.interval)}).
        Epoch ${run.chosen_epoch} of ${run.epochs} is kept${run.interrupted ? "; it was stopped early" : ""}.` : ""}</p>
    ${!run && html`<p>${many(work.epochs, "epoch")} so far.${work.asked_to_stop ? ` Stopping after this batch; the ${work.result.keep} of the epochs that are complete is kept.` : ""}</p>`}
    ${specs.loss && html`<${Chart} spec=${specs.loss} label="Loss by epoch" /><${Chart} spec=${specs.accuracy} label="Accuracy by epoch" />`}`;
}
