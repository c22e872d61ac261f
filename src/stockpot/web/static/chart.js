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
  const place = useRef(null);
  useEffect(() => {
    let view = null, gone = false;
    load().then(() => gone || window.vegaEmbed(place.current, spec, OPTIONS).then(made => { view = made; if (gone) made.finalize(); }));
    return () => { gone = true; view?.finalize(); };
  }, [JSON.stringify(spec)]);
  return html`<div class="chart" role="img" aria-label=${label} ref=${place}></div>`;
}
