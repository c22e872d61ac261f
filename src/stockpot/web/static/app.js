// The frame: which page is shown, messages, and the work that is under way on whatever page one is.
import {html, render, useEffect, useState} from "./vendor/htm-preact.module.js";
import {ask, useWork} from "./api.js";
import {Collect} from "./collect.js";
import {Finish} from "./finish.js";
import {Results} from "./results.js";
import {Review} from "./review.js";
import {Train} from "./train.js";
import {Try} from "./try.js";

const PAGES = {
  collect: ["Collect", Collect], review: ["Review", Review], train: ["Train", Train],
  results: ["Results", Results], try: ["Try it", Try], finish: ["Finish", Finish],
};
const asked = () => PAGES[location.hash.slice(1)] ? location.hash.slice(1) : "";

function App() {
  const [page, setPage] = useState(asked());
  const [project, setProject] = useState("");
  const [message, say] = useState("");
  const work = useWork();
  useEffect(() => {
    const follow = () => { setPage(asked() || "review"); say(""); };
    addEventListener("hashchange", follow);
    ask("/api/collect").then(state => {
      setProject(state.project);
      document.title = `${state.project} · stockpot`;
      setPage(now => now || (state.classes.length ? "review" : "collect"));
    }, error => say(error.message));
    const keep = event => event.preventDefault();  // a photo dropped beside its place must not replace the page
    addEventListener("dragover", keep);
    addEventListener("drop", keep);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => { if (work?.number && work.kind !== "forecast") say(""); }, [work?.number]);  // a forecast begins by itself
  const Page = PAGES[page]?.[1];
  return html`
    <a class="skip" href="#content" onClick=${event => { event.preventDefault(); document.querySelector("main").focus(); }}>Skip to the page</a>
    <header>
      <h1>stockpot <span class="quiet">${project}</span></h1>
      <nav aria-label="Pages">${Object.entries(PAGES).map(([name, [title]]) => html`
        <a key=${name} href=${`#${name}`} aria-current=${name === page ? "page" : null}>${title}</a>`)}</nav>
    </header>
    <div class="messages">
      ${work?.running && html`<${Bar} work=${work} say=${say} />`}
      <p class="message" role="status">${message}</p>
      ${work?.error && html`<p class="error" role="alert">${work.error}</p>`}
    </div>
    <main id="content" tabindex="-1">${Page && work && html`<${Page} key=${page} say=${say} work=${work} />`}</main>`;
}

function Bar({work, say}) {
  const stop = () => ask("/api/stop", {}).catch(error => say(error.message));
  const known = work.total > 0;
  return html`<section class="work" aria-label="Work under way">
    <span>${work.title}${work.stage ? `: ${work.stage}` : " …"}${known ? ` ${work.done} of ${work.total}` : ""}</span>
    <progress aria-label=${work.title} max=${known ? work.total : null} value=${known ? work.done : null}></progress>
    ${work.remark && html`<span class="quiet">${work.remark}</span>`}
    ${work.stoppable && html`<button disabled=${work.asked_to_stop} onClick=${stop}>
      ${work.asked_to_stop ? "Stopping …" : "Stop"}</button>`}
  </section>`;
}

render(html`<${App} />`, document.body);
