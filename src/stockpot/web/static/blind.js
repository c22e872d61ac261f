// Blind: the mistakes without labels. Could a person recognise them? The first answer counts.
import {html, useLayoutEffect, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, many, photoAt} from "./api.js";

export function Blind({state, say, leave}) {
  const [left, setLeft] = useState(() => state.mistakes.filter(one => state.blind.answers[one.sha256] === null));
  const [blind, setBlind] = useState(state.blind);
  const sending = useRef(false);
  const one = left[0];
  const choices = [...state.classes, ""];
  function see(label) {
    if (sending.current) return;
    sending.current = true;
    const next = () => setLeft(left => left.filter(other => other !== one));
    ask("/api/results/blind", {run: state.run, sha256: one.sha256, label}).then(
      found => { setBlind(found); next(); }, error => {
        say(error.message);
        if (error.message.includes("answered before")) next();  // in another tab
      }).finally(() => { sending.current = false; });
  }
  useLayoutEffect(() => {  // together with the next photo: a quick key must never answer for the last one
    const press = event => {
      const number = Number(event.key), plain = !(event.repeat || event.ctrlKey || event.metaKey || event.altKey);
      if (one && plain && /^[0-9]$/.test(event.key) && number <= state.classes.length) see(number ? state.classes[number - 1] : "");
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  });
  if (!one) return html`<${Outcome} state=${state} blind=${blind} leave=${leave} />`;
  return html`<section class="blind">
    <h2>What do you see?</h2>
    <p class="quiet">${`${many(left.length, "photo")} left of ${state.mistakes.length}. Your first answer counts.`}</p>
    <img src=${photoAt(one, 640)} alt="A photo without its label" />
    <p class="fields">${choices.map((label, i) => html`<button key=${label} class=${label ? "main" : ""} onClick=${() => see(label)}>
      ${label ? `${i < 9 ? i + 1 : ""} ${label}` : "0 I cannot tell"}</button>`)}</p>
    <p><button onClick=${leave}>Back to the results</button></p>
  </section>`;
}

function Outcome({state, blind, leave}) {
  const {right, misled, answered, answers} = blind;
  const other = state.mistakes.filter(one => answers[one.sha256] === one.predicted);
  return html`<section>
    <h2>You saw the true class of ${right} of ${answered}</h2>
    <p>${`${state.run} got all of them wrong. Of ${many(misled, "photo")} you said what it said${misled ? ": perhaps they lie in the wrong class." : "."}`} The report says so below point 9.1.</p>
    ${other.length > 0 && html`<ul class="photos small">${other.map(one => html`<li key=${one.sha256} class="photo">
      <img src=${photoAt(one, 160)} alt="" width="160" height="160" /><span class="label">${one.label}</span><span>seen as ${one.predicted}</span></li>`)}</ul>
      <p><a href="#review">Review them</a></p>`}
    <p><button class="main" onClick=${leave}>Back to the results</button></p>
  </section>`;
}
