// Try it: drop, paste or choose a photo; what the best model says of it, and why.
import {html, useEffect, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, percent} from "./api.js";

export function Try({say}) {
  const [answer, setAnswer] = useState(null);
  const [photo, setPhoto] = useState("");
  const [fade, setFade] = useState(100);
  const asked = useRef(0);  // a slow answer to an earlier photo does not count

  function look(file) {
    if (!file) return;
    say("Looking …");
    setPhoto(old => { URL.revokeObjectURL(old); return URL.createObjectURL(file); });
    setAnswer(null);
    const number = ++asked.current, current = answered => number === asked.current && answered();
    ask("/api/try", file).then(
      found => current(() => { setAnswer(found); say(""); }), error => current(() => say(error.message)));
  }
  useEffect(() => {
    const paste = event => look(event.clipboardData.files[0]);
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  const drop = event => { event.preventDefault(); look(event.dataTransfer.files[0]); };
  const ranked = answer && Object.entries(answer.probabilities).sort((a, b) => b[1] - a[1]);
  return html`
    <div class="drop" onDrop=${drop} onDragOver=${event => event.preventDefault()}>
      <label>Drop or paste a photo here, or choose one:
        <input type="file" accept="image/*" onChange=${event => look(event.target.files[0])} /></label>
    </div>
    ${answer && html`<section class="answer">
      <div class="layers">
        <img src=${photo} alt="The photo" />
        <img src=${`data:image/png;base64,${answer.overlay}`} alt=${`What speaks for ${answer.label}, in orange, and against it, in purple`}
          style=${{opacity: fade / 100}} />
      </div>
      <div>
        <h2>${answer.label} ${percent(answer.probabilities[answer.label])}</h2>
        <ol>${ranked.map(([name, share]) => html`<li key=${name}><span>${name}</span> <meter min="0" max="1" value=${share} aria-label=${name}></meter> ${percent(share)}</li>`)}</ol>
        <label>Heat map <input type="range" min="0" max="100" value=${fade} onInput=${event => setFade(Number(event.target.value))} /></label>
        <p class="quiet">A map shows the evidence that the model used. It does not show why it is there.</p>
      </div>
    </section>`}`;
}
