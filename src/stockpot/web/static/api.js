// The server's answers; an error is its one line.
export async function ask(path, body) {
  const json = body !== undefined && !(body instanceof Blob);
  const response = await fetch(path, body === undefined ? {} : {
    method: "POST",
    body: json ? JSON.stringify(body) : body,
    headers: {"Content-Type": json ? "application/json" : "application/octet-stream"},
  });
  const answer = await response.json().catch(() => ({error: `The server answered ${response.status}.`}));
  if (!response.ok) throw new Error(answer.error || "The server did not understand that.");
  return answer;
}

// Calls back with every stage of work until what is returned is called.
export function listen(callback) {
  const source = new EventSource("/api/progress");
  source.onmessage = event => callback(JSON.parse(event.data));
  return () => source.close();
}

export const percent = share => `${(100 * share).toFixed(1)}\u00a0%`;
