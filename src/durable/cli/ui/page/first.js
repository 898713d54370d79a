// What the address says, and the first list of runs: asked for as soon as this module is there, which is long before
// those are that draw it. Nothing else happens here.

import { get, keepToken } from "./api.js";

export const PAGE = 100; // runs asked for at a time

/** What the address says: filters, the run that is chosen, and its step. */
export const state = new URLSearchParams(location.hash.slice(1));
keepToken(state);

/** Which runs are looked for, as the server is asked for them. */
export function filters() {
  const seconds = { since: moment(state.get("since")), before: moment(state.get("before")) };
  const isRange = state.get("age") === "range";
  return {
    status: state.get("status") ?? "",
    workflow: state.get("workflow") ?? "",
    text: (state.get("text") ?? "").trim(),
    since: isRange ? seconds.since : state.has("age") ? Math.floor(Date.now() / 1000) - Number(state.get("age")) : "",
    before: isRange ? seconds.before : "",
  };
}

function moment(text) {
  const at = text ? new Date(text).getTime() : NaN;
  return Number.isNaN(at) ? "" : at / 1000;
}

export const firstPage = get("runs", { ...filters(), limit: PAGE });
firstPage.catch(() => {}); // whoever draws it tells of it
