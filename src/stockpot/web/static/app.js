// The frame: which page is shown, and messages.
import {html, render, useEffect, useState} from "./vendor/htm-preact.module.js";
import {Review} from "./review.js";
import {Try} from "./try.js";

const PAGES = {review: ["Review", Review], try: ["Try it", Try]};
const asked = () => PAGES[location.hash.slice(1)] ? location.hash.slice(1) : "review";

function App() {
  const [page, setPage] = useState(asked());
  const [message, say] = useState("");
  useEffect(() => {
    const follow = () => { setPage(asked()); say(""); };
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const Page = PAGES[page][1];
  return html`
    <header>
      <h1>stockpot</h1>
      <nav aria-label="Pages">${Object.entries(PAGES).map(([name, [title]]) => html`
        <a key=${name} href=${`#${name}`} aria-current=${name === page ? "page" : null}>${title}</a>`)}</nav>
    </header>
    <p class="message" role="status" aria-live="polite">${message}</p>
    <main><${Page} say=${say} /></main>`;
}

render(html`<${App} />`, document.body);
