// The server: its answers, what it is doing, and where its pictures are.
import {useEffect, useRef, useState} from "./vendor/htm-preact.module.js";

// An answer; an error is its one line.
export async function ask(path, body) {
  const json = body !== undefined && !(body instanceof Blob);
  const response = await fetch(path, body === undefined ? {} : {
    method: "POST",
    body: json ? JSON.stringify(body) : body,
    headers: {"Content-Type": json ? "application/json" : "application/octet-stream"},
  }).catch(() => { throw new Error("The server does not answer: is stockpot web still running?"); });
  const answer = await response.json().catch(() => ({error: `The server answered ${response.status}.`}));
  if (!response.ok) throw new Error(answer.error || "The server did not understand that.");
  return answer;
}

// What is being done; null until the server has said so.
export function useWork() {
  const [work, setWork] = useState(null);
  useEffect(() => {
    const source = new EventSource("/api/work");
    source.onmessage = event => setWork(JSON.parse(event.data));
    return () => source.close();
  }, []);
  return work;
}

// An answer that is asked for again whenever work begins or ends: it may have been waited for, or changed by it.
export function useAnswer(path, work, say) {
  const [answer, setAnswer] = useState(null);
  const waiting = useRef("");  // kind of the work that will have it
  const refresh = () => ask(path).then(found => {
    waiting.current = found.waiting ?? "";
    if (!found.waiting) setAnswer(found);
  }, error => say(error.message));
  useEffect(() => {
    if (!work.running && work.error && work.kind === waiting.current) waiting.current = "";  // asked again it would fail again
    else refresh();
  }, [path, work.number, work.running]);
  return [answer, refresh, setAnswer, waiting.current !== ""];
}

export const at = (...parts) => parts.map(encodeURIComponent).join("/");
export const photoAt = (one, side) => `/photos/${one.photo}?side=${side}`;
export const query = values => new URLSearchParams(Object.entries(values).filter(([, value]) => value));
export const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;
export const between = ([low, high]) => `${(100 * low).toFixed(1)} to ${percent(high)}`;
export const many = (count, one, more = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
