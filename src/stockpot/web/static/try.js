// Try it: drop, paste, choose or take a photo; what the best model says of it, why, and what it resembles.
import {html, useEffect, useRef, useState} from "./vendor/htm-preact.module.js";
import {ask, photoAt, query} from "./api.js";
import {MapView} from "./map.js";

export function Try({say}) {
  const [answer, setAnswer] = useState(null);
  const [nearest, setNearest] = useState(null);
  const [camera, setCamera] = useState(null);
  const asked = useRef(0);  // a slow answer to an earlier photo does not count

  function look(file) {
    if (!file) return;
    say("Looking …");
    setAnswer(null);
    setNearest(null);
    const number = ++asked.current, current = answered => number === asked.current && answered();
    ask("/api/try", file).then(found => {
      current(() => { setAnswer(found); say(""); });
      return ask(`/api/try/${found.number}/nearest`).then(near => current(() => setNearest(near)));
    }).catch(error => current(() => say(error.message)));
  }
  useEffect(() => {
    const paste = event => look(event.clipboardData.files[0]);
    addEventListener("paste", paste);
    return () => removeEventListener("paste", paste);
  }, []);
  const drop = event => { event.preventDefault(); look(event.dataTransfer.files[0]); };
  const open = () => navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}})
    .then(setCamera, error => say(`The camera cannot be used: ${error.message}`));
  return html`
    <h2>Try it on a photo</h2>
    <div class="drop" onDrop=${drop} onDragOver=${event => event.preventDefault()}>
      <p class="fields">Drop or paste a photo here,
        <label class="button">choose one <input type="file" accept="image/*" onChange=${event => { look(event.target.files[0]); event.target.value = ""; }} /></label>
        <button onClick=${open}>take one</button></p>
    </div>
    ${camera && html`<${Camera} stream=${camera} take=${look} close=${() => setCamera(null)} />`}
    ${answer && html`<section aria-label="Answer">
      <${MapView} key=${answer.number} answer=${answer} photo=${`/api/try/${answer.number}/photo`}
        mapOf=${(of, rather) => `/api/try/${answer.number}/map?${query({of, rather_than: rather})}`} />
      <p class="quiet">Answered by ${answer.run}, the project's best model.${answer.stale && " It learned from other photos than those that are there now."}</p>
      <h3>The training photos that it resembles most</h3>
      ${nearest ? html`<ul class="photos small">${nearest.map(one => html`<li key=${one.photo} class="photo">
          <img src=${photoAt(one, 160)} alt="" width="160" height="160" />
          <span class="label">${one.label}</span><span class="quiet">cosine ${one.cosine.toFixed(2)}</span></li>`)}</ul>`
        : html`<p class="quiet">Looking for them …</p>`}
    </section>`}`;
}

function Camera({stream, take, close}) {
  const video = useRef(null);
  useEffect(() => {
    video.current.srcObject = stream;
    return () => stream.getTracks().forEach(track => track.stop());
  }, [stream]);
  function shoot() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.current.videoWidth, video.current.videoHeight];
    canvas.getContext("2d").drawImage(video.current, 0, 0);
    canvas.toBlob(photo => { take(photo); close(); }, "image/jpeg", 0.95);
  }
  return html`<div class="camera"><video ref=${video} autoplay muted playsinline></video>
    <p class="fields"><button class="main" onClick=${shoot}>Take the photo</button><button onClick=${close}>Close the camera</button></p></div>`;
}
