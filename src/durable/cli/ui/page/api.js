// What the page asks its server. Every answer is a tree of JSON; every refusal an `Error` with the server's words.

export class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** The answer to a question: `get("runs", {status: "failed"})`. Empty parameters are left out. */
export async function get(name, parameters = {}) {
  const asked = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== "" && value !== null && value !== undefined) asked.set(key, value);
  }
  return answer(`${name}?${asked}`);
}

/** Ask for a change of a run. Needs the token that `durable ui --write` printed. */
export async function post(name, tree) {
  const headers = { "Content-Type": "application/json", "X-Durable-Token": token() };
  return answer(name, { method: "POST", headers, body: JSON.stringify(tree) });
}

/** The server may end before it answers, and in the middle of it. */
async function answer(question, options) {
  let response, tree;
  try {
    response = await fetch(`api/${question}`, options);
    tree = await response.json();
  } catch {
    throw new Refusal(0, "durable ui has ended: start it again to see the runs.");
  }
  if (!response.ok) throw new Refusal(response.status, tree.error);
  return tree;
}

/** The token of this tab, "" where it came without one. */
export function token() {
  return sessionStorage.getItem("token") ?? "";
}

/** Take the token out of the address, so that it is neither seen nor bookmarked. */
export function keepToken(state) {
  if (!state.has("token")) return;
  sessionStorage.setItem("token", state.get("token"));
  state.delete("token");
  history.replaceState(null, "", `#${state}`);
}
