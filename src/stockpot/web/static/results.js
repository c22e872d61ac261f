// Results: runs side by side, the photos behind every cell of the confusion matrix, mistakes, and why.
import {html, useEffect, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, at, between, many, percent, photoAt, query, useAnswer} from "./api.js";
import {Blind} from "./blind.js";
import {Chart} from "./chart.js";
import {MapView} from "./map.js";

const SHOWN = 24;  // photos of a cell, and cards, before one asks for more

export function Results({say, work}) {
  const [run, setRun] = useState("");
  const [state, refresh, , waiting] = useAnswer(`/api/results?${query({run})}`, work, say);
  const [cell, setCell] = useState(null);  // [truth, predicted]
  const [close, setClose] = useState(null);  // the photo that is looked at closely
  const [blind, setBlind] = useState(null);  // the results whose mistakes are looked at without labels
  const [open, setOpen] = useState(false);  // the mistakes, with their labels
  const [all, setAll] = useState(false);
  if (!state) return waiting || work.running ? null : html`<p><a href="#train">Train</a>, or <a href="#collect">collect photos</a>.</p>`;
  if (blind) return html`<${Blind} state=${blind} say=${say} leave=${() => { setBlind(null); refresh(); }} />`;
  const shown = open || state.blind.answered === state.blind.asked;
  const mapOf = (one, of, rather) => `/maps/${at(state.run, one.photo)}?${query({of, rather_than: rather, scale: state.scale})}`;
  return html`
    <section>
      <h2>Runs side by side</h2>
      <${Comparison} state=${state} choose=${name => { setRun(name); setCell(null); }} />
      <div class="columns"><${Chart} spec=${state.charts.accuracy} label="Accuracy of each run with its interval" />
        <${Chart} spec=${state.charts.curves} label="Validation loss of each run by epoch" /></div>
    </section>
    ${state.charts.more && html`<section>
      <h2>Would more photos help?</h2>
      <div class="columns"><p>${state.more}</p><${Chart} spec=${state.charts.more} label="Accuracy with fewer training photos" /></div>
    </section>`}
    <section>
      <h2>What ${state.run} takes for what</h2>
      <p>${percent(state.accuracy)} of ${many(state.n, "photo")} that it has not learned from (95 % interval ${between(state.interval)})${state.chosen ? "; its epoch was chosen on these very photos, which flatters this a little" : ""}.
        Choose a cell to see its photos.</p>
      <${Confusion} state=${state} cell=${cell} choose=${setCell} />
      ${cell && html`<${Cell} state=${state} cell=${cell} look=${setClose} />`}
    </section>
    <section>
      <h2>Mistakes</h2>
      ${state.mistakes.length === 0 ? html`<p>None among ${many(state.n, "photo")}.</p>` : html`
        <p>${many(state.mistakes.length, "photo")} of ${state.n}, the surest first. <${Person} blind=${state.blind} /></p>
        ${!shown && html`<p class="fields">Could a person tell? Look before you see the labels.
          <button class="main" onClick=${() => setBlind(state)}>Look at them without labels</button>
          <button onClick=${() => setOpen(true)}>Show them with their labels</button></p>`}
        ${shown && html`<p class="legend"><span class="swatch for"></span> for the class <span class="swatch against"></span> against it; one scale for all maps</p>
          <div class="cards">${state.mistakes.slice(0, all ? undefined : SHOWN).map(one => html`<${Mistake} key=${one.sha256} one=${one} mapOf=${mapOf} look=${setClose} />`)}</div>
          ${!all && state.mistakes.length > SHOWN && html`<p><button onClick=${() => setAll(true)}>Show all ${state.mistakes.length}</button></p>`}`}`}
    </section>
    <section>
      <h2>Some that it gets right</h2>
      <ul class="photos">${state.correct.map(one => html`<li key=${one.photo}><button class="photo bare" onClick=${() => setClose(one)}>
        <img src=${mapOf(one, one.predicted, "")} alt=${`Map of ${one.label}, ${one.name}`} loading="lazy" width="160" height="160" />
        <span class="label">${one.label}</span><span class="quiet">${percent(one.probabilities[one.predicted])}</span></button></li>`)}</ul>
    </section>
    ${close && html`<${Closer} key=${close.photo} state=${state} one=${close} mapOf=${mapOf} say=${say} leave=${() => setClose(null)} />`}`;
}

function Comparison({state, choose}) {
  const [label, share] = state.majority;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Runs side by side"><table>
      <thead><tr><th scope="col">run</th><th scope="col">accuracy</th><th scope="col">95 % interval</th><th scope="col">loss</th><th scope="col">seconds</th>
        <th scope="col">learned</th><th scope="col" class="words">against</th></tr></thead>
      <tbody>${state.rows.map(row => html`<tr key=${row.name} class=${row.name === state.run ? "chosen" : ""}>
          <th scope="row"><button class="link" aria-pressed=${row.name === state.run} onClick=${() => choose(row.name)}>${row.name}</button></th>
          <td>${percent(row.accuracy)}${row.chosen && "*"}</td><td>${between(row.interval)}</td><td>${row.loss.toFixed(3)}</td><td>${row.seconds.toFixed(0)}</td>
          <td>${row.trained_parameters.toLocaleString("en")}</td><td class="words">${row.against}</td></tr>`)}
        <tr><th scope="row">majority</th><td>${percent(share)}</td><td></td><td></td><td></td><td></td><td class="words">always says ${label}</td></tr></tbody>
    </table></div>
    ${state.remarks.map(text => html`<p key=${text} class="quiet">${text}</p>`)}`;
}

function Confusion({state, cell, choose}) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="confusion">
    <caption>True class in rows, predicted in columns</caption>
    <thead><tr><td></td>${state.classes.map(name => html`<th key=${name} scope="col">${name}</th>`)}</tr></thead>
    <tbody>${state.confusion.map((row, i) => {
      const sum = row.reduce((a, b) => a + b, 0) || 1;
      return html`<tr key=${i}><th scope="row">${state.classes[i]}</th>${row.map((count, j) => {
        const chosen = cell?.[0] === state.classes[i] && cell?.[1] === state.classes[j];
        return html`<td key=${j} class=${i === j ? "right" : "wrong"}>${count ? html`<button style=${{"--share": count / sum}} aria-pressed=${chosen}
          aria-label=${`${many(count, "photo")} of ${state.classes[i]} taken for ${state.classes[j]}`}
          onClick=${() => choose(chosen ? null : [state.classes[i], state.classes[j]])}>${count}</button>` : html`<span class="none">0</span>`}</td>`;
      })}</tr>`;
    })}</tbody></table></div>`;
}

function Cell({state, cell: [truth, predicted], look}) {
  const photos = state.photos.filter(one => one.label === truth && one.predicted === predicted).sort((a, b) => b.probability - a.probability);
  const [all, setAll] = useState(false);
  return html`<h3>${many(photos.length, "photo")} of ${truth} ${truth === predicted ? "taken for what they are" : `taken for ${predicted}`}, the surest first</h3>
    <ul class="photos small">${photos.slice(0, all ? undefined : SHOWN).map(one => html`<li key=${one.photo}><button class="photo bare" onClick=${() => look(one)}>
      <img src=${photoAt(one, 160)} alt=${`${truth}, ${one.name}`} loading="lazy" width="160" height="160" /><span class="quiet">${percent(one.probability)}</span></button></li>`)}</ul>
    ${!all && photos.length > SHOWN && html`<p><button onClick=${() => setAll(true)}>Show all ${photos.length}</button></p>`}`;
}

function Mistake({one, mapOf, look}) {
  const [like, own] = one.nearest;
  const figure = (source, caption) => html`<figure><img src=${source} alt=${caption} loading="lazy" width="160" height="160" /><figcaption>${caption}</figcaption></figure>`;
  return html`<article class="card">
    <h3>${one.label}, taken for ${one.predicted}</h3>
    <div class="figures">
      ${figure(photoAt(one, 320), one.name)}
      ${figure(mapOf(one, one.predicted, ""), `for ${one.predicted}: ${percent(one.probabilities[one.predicted])}`)}
      ${figure(mapOf(one, one.label, ""), `for ${one.label}: ${percent(one.probabilities[one.label])}`)}
      ${figure(mapOf(one, one.predicted, one.label), `for ${one.predicted}, not ${one.label}`)}
      ${figure(photoAt(like, 320), `nearest ${like.label} it learned from`)}
      ${figure(photoAt(own, 320), `nearest ${own.label} it learned from`)}
    </div>
    <p><button onClick=${() => look(one)}>Look closer</button></p>
  </article>`;
}

function Person({blind}) {
  if (!blind.answered) return null;
  return html`<span>A person saw the true class of ${blind.right} of ${blind.answered}${blind.answered < blind.asked ? `, ${blind.asked - blind.answered} are left` : ""}.</span>`;
}

function Closer({state, one, mapOf, say, leave}) {
  const dialog = useRef(null);
  const [answer, setAnswer] = useState(null);
  const [channels, setChannels] = useState("");
  useEffect(() => {
    dialog.current.showModal();
    ask(`/api/explained/${at(state.run, one.photo)}`).then(setAnswer, error => { say(error.message); leave(); });
  }, []);
  return html`<dialog ref=${dialog} onClose=${leave} aria-label=${`${one.label}, ${one.name}`}>
    <p class="fields spread"><b>${one.label}/${one.name}</b> <button onClick=${() => dialog.current.close()}>Close</button></p>
    ${answer ? html`<${MapView} answer=${answer} truth=${one.label} photo=${photoAt(one, 640)} mapOf=${(of, rather) => mapOf(one, of, rather)} />
      <h3>The channels behind it</h3>
      <p class="fields">${state.classes.map(name => html`<button key=${name} aria-pressed=${channels === name} onClick=${() => setChannels(name)}>of ${name}</button>`)}</p>
      ${channels && html`<img class="wide" src=${`/channels/${at(state.run, one.photo)}?${query({of: channels})}`}
        alt=${`The channels that contribute most to ${channels}, arbitrary others, and their running sum on the photo`} />`}`
      : html`<p class="quiet">Looking …</p>`}
  </dialog>`;
}
