// A chart from its Vega-Lite specification; the scripts that draw are fetched when the first one is needed.
import {html, useEffect, useRef} from "./vendor/htm-preact.module.js";

const SCRIPTS = ["vega", "vega-lite", "vega-embed"];
const OPTIONS = {actions: false, renderer: "svg", ast: true, defaultStyle: false, tooltip: {disableDefaultStyle: true}};
let drawing = null;

function load() {
  drawing ??= SCRIPTS.reduce((before, name) => before.then(() => new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = `/static/charts/${name}.min.js`;
    script.onload = done;
    script.onerror = () => fail(new Error(`${name} could not be loaded`));
    document.head.append(script);
  })), Promise.resolve());
  return drawing;
}

export function Chart({spec, label}) {
  const place = useRef(null), view = useRef(null), turn = useRef(Promise.resolve()), last = useRef(null);
  const text = JSON.stringify(spec);
  useEffect(() => {
    last.current = text;
    turn.current = turn.current.then(load).then(async () => {
      if (last.current !== text) return;  // a newer one waits already, or the chart is gone
      view.current?.finalize();
      view.current = await window.vegaEmbed(place.current, spec, OPTIONS);
    });
  }, [text]);
  useEffect(() => () => { last.current = null; view.current?.finalize(); }, []);
  return html`<div class="chart" role="img" aria-label=${label} ref=${place}></div>`;
}
