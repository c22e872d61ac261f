// Finish: one's own words, the report, the model, and what does it all again.
import {html, useEffect, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, at, useAnswer} from "./api.js";

export function Finish({say, work}) {
  const [state, refresh] = useAnswer("/api/finish", work, say);
  if (!state) return null;
  return html`
    <div class="columns">
      <${Notes} state=${state} say=${say} />
      <${Report} state=${state} say=${say} work=${work} />
    </div>
    <section>
      <h2>Do it again</h2>
      <p class="quiet">What was done here, as commands and as Python, as far as the folder remembers it: run in an empty folder it is done again.</p>
      <div class="columns"><${Code} title="Commands" text=${state.commands} say=${say} /><${Code} title="Python" text=${state.python} say=${say} /></div>
    </section>`;
}

let draft = null;  // words that are not saved yet, while one looks at other pages: {text, saved}

function Notes({state, say}) {
  const [text, setText] = useState(draft?.text ?? state.notes);
  const [saved, setSaved] = useState(draft?.saved ?? {text: state.notes, version: state.version});
  draft = text === saved.text ? null : {text, saved};
  const box = useRef(null);
  useEffect(() => {  // leaving the app with words that are not saved asks first
    const ask = event => { if (text !== saved.text) event.preventDefault(); };
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  });
  const save = () => ask("/api/finish/notes", {text, version: saved.version}).then(
    kept => { setSaved({text, version: kept.version}); say("Notes saved."); }, error => say(error.message));
  function begin(question) {
    const heading = `## ${question.number}`;
    if (!text.split("\n").some(line => line.trim().startsWith(heading))) setText(`${text.trimEnd()}${text.trim() ? "\n\n" : ""}${heading} ${question.title}\n\n`);
    box.current.focus();
  }
  return html`<section>
    <h2>Your own words</h2>
    <p class="quiet">Some points of the lab ask a person. What stands under a point's number goes into its section of the report (Markdown, kept as notes.md).</p>
    <ul class="plain">${state.questions.map(one => html`<li key=${one.number}><button onClick=${() => begin(one)}>${one.number}</button> ${one.title}</li>`)}</ul>
    <label class="tall">Notes <textarea ref=${box} rows="12" value=${text} onInput=${event => setText(event.target.value)}></textarea></label>
    <button class="main" disabled=${text === saved.text} onClick=${save}>Save the notes</button>
    ${text !== saved.text && html` <span class="quiet">not saved yet</span>`}
  </section>`;
}

function Report({state, say, work}) {
  const [wanted, setWanted] = useState({run: "", language: "en", author: "", title: ""});
  const set = part => setWanted({...wanted, ...part});
  const write = event => { event.preventDefault(); ask("/api/finish/report", wanted).catch(error => say(error.message)); };
  return html`<section>
    <h2>The report</h2>
    <form onSubmit=${write}>
      <p class="fields stacked">
        <label>Author <input value=${wanted.author} onInput=${event => set({author: event.target.value})} /></label>
        <label>Title <input value=${wanted.title} onInput=${event => set({title: event.target.value})} /></label>
        <label>Language <select value=${wanted.language} onChange=${event => set({language: event.target.value})}>
          <option value="en">English</option><option value="pl">polski</option></select></label>
        <label>Run <select value=${wanted.run} onChange=${event => set({run: event.target.value})}>
          <option value="">the best one</option>${state.runs.map(name => html`<option key=${name} value=${name}>${name}</option>`)}</select></label>
      </p>
      <button class="main" disabled=${work.running || !state.runs.length}>Write the report</button>
      ${state.report && !(work.running && work.kind === "report") && html` <a href="/report.html" target="_blank" rel="noopener">Open the report</a>`}
    </form>
    <h2>The model</h2>
    ${state.runs.length ? html`<p class="quiet">One file: weights, class names, preprocessing and figures. <code>stockpot predict FILE PHOTO</code> runs it.</p>
      <ul class="plain">${state.runs.map(name => html`<li key=${name}><a href=${`/models/${at(name)}.safetensors`} download>Download ${name}</a></li>`)}</ul>`
      : html`<p class="quiet">None yet: <a href="#train">train one</a>.</p>`}
  </section>`;
}

function Code({title, text, say}) {
  const copy = () => navigator.clipboard.writeText(text).then(() => say(`${title} copied.`), () => say("The browser does not let this page copy: select the text."));
  return html`<div><h3>${title} <button onClick=${copy}>Copy</button></h3>
    <pre tabindex="0" aria-label=${title}><code>${text}</code></pre></div>`;
}
