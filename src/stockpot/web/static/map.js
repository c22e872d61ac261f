// A photo and what the model saw in it: the map of any class, rather than any other, faded as one likes.
import {html, useState} from "./vendor/htm-preact.module.js";
import {percent} from "./api.js";

export function MapView({photo, mapOf, answer, truth}) {
  const names = Object.keys(answer.probabilities);
  const [of, setOf] = useState(answer.predicted);
  const [rather, setRather] = useState("");
  const [fade, setFade] = useState(75);
  const ranked = Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  const choose = name => { setOf(name); if (name === rather) setRather(""); };
  const words = rather ? `What speaks for ${of} and against ${rather}` : `What speaks for ${of}`;
  return html`<div class="answer">
    <figure>
      <div class="layers">
        <img src=${photo} alt="The photo" />
        <img class="map" src=${mapOf(of, rather)} alt=${`${words}, in orange; against it, in purple`} style=${{opacity: fade / 100}} />
      </div>
      <figcaption><span class="swatch for"></span> for <span class="swatch against"></span> against</figcaption>
    </figure>
    <div>
      ${answer.none_of_these && html`<p class="large"><b>None of these</b></p>
        <p>It resembles no class as their photos resemble each other. If it had to be one of them:</p>`}
      <p class="large"><b>${answer.predicted}</b> ${percent(answer.probabilities[answer.predicted])}</p>
      ${truth && html`<p class=${truth === answer.predicted ? "" : "wrong"}>${truth === answer.predicted ? "right" : html`in truth <b>${truth}</b>`}</p>`}
      <ol class="ranked">${ranked.map(([name, share]) => html`<li key=${name}><span>${name}</span>
        <meter min="0" max="1" value=${share} aria-label=${name}></meter> ${percent(share)}</li>`)}</ol>
      <p class="fields">
        <label>Why <select value=${of} onChange=${event => choose(event.target.value)}>
          ${names.map(name => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
        <label>and not <select value=${rather} onChange=${event => setRather(event.target.value)}>
          <option value="">–</option>
          ${names.filter(name => name !== of).map(name => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
        <label>Heat map <input type="range" min="0" max="100" value=${fade} onInput=${event => setFade(Number(event.target.value))} /></label>
      </p>
      <p class="quiet">${rather
        ? `The logits differ by ${(answer.logits[of] - answer.logits[rather]).toFixed(2)}: the mean of this map and the difference of two biases.`
        : `The logit of ${of} is ${answer.logits[of].toFixed(2)}: the mean of this map and a bias.`}
        ${" "}A map shows the evidence that the model used. It does not show why it is there.</p>
    </div>
  </div>`;
}
