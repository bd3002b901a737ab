"""The page of a user study: plain HTML and script, no server, no libraries."""

import html
import json
from typing import Any


def page(data: dict[str, Any]) -> str:
    """The whole page; `data` as `make_study` builds it."""
    embedded = json.dumps(data).replace("</", "<\\/")
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(data['question'])}</title>"
        f'<meta name=viewport content="width=device-width"><style>{_STYLE}</style>{_BODY}'
        f'<script id=data type="application/json">{embedded}</script><script>{_SCRIPT}</script></html>'
    )


_STYLE = """
body{font:17px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1.2rem;color:#222;text-align:center}
#pictures{display:flex;gap:1rem;justify-content:center;flex-wrap:wrap}
#pictures img{max-width:100%;max-height:60vh;border-radius:6px}
#pictures button{border:3px solid transparent;background:none;padding:0;cursor:pointer;border-radius:8px;max-width:46%}
#pictures button:hover,#pictures button:focus{border-color:#2f6f9f}
#reference img{max-height:30vh;border-radius:6px}
.choices button{font:inherit;margin:.25rem;padding:.4rem 1rem;border:1px solid #999;border-radius:6px;background:#fff}
progress{width:100%}small{color:#666}
"""

_BODY = """
<progress id=progress value=0></progress><h2 id=question></h2>
<div id=reference></div><div id=pictures></div><p class=choices id=choices></p>
<p><small id=note></small></p>
"""

_SCRIPT = """
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const key = "headlab-study:" + location.pathname;
const store = { get() { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } },
  set(v) { try { localStorage.setItem(key, JSON.stringify(v)); } catch {} } };
function shuffled(list) {
  const out = list.slice();
  for (let i = out.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1)); [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}
let state = store.get();
if (!state || state.total !== data.pairs.length + data.emotions.length) {
  const flip = p => Math.random() < 0.5 ? p : { item: p.item, left: p.right, right: p.left };
  state = { visitor: Math.random().toString(36).slice(2, 12), answers: [], at: 0,
    total: data.pairs.length + data.emotions.length,
    questions: [...shuffled(data.pairs).map(p => ({ kind: "pair", ...flip(p) })),
      ...shuffled(data.emotions).map(e => ({ kind: "emotion", ...e }))] };
  store.set(state);
}
let shown = performance.now();
const source = (item, method) => data.sources[item + "|" + method];
function button(parent, label, value) {
  const b = document.createElement("button"); b.textContent = label; b.dataset.choice = value;
  b.onclick = () => answer(value); parent.append(b); return b;
}
function picture(parent, src, alt) { const i = new Image(); i.src = src; i.alt = alt; parent.append(i); return i; }
function answer(choice) {
  const q = state.questions[state.at];
  const pair = q.kind === "pair";
  state.answers.push([state.visitor, q.kind, q.item, pair ? q.left : q.method, pair ? q.right : q.wanted, choice,
    ((performance.now() - shown) / 1000).toFixed(2)]);
  state.at++; store.set(state); show();
}
function csv() {
  const quote = v => '"' + String(v).replaceAll('"', '""') + '"';
  return [data.columns, ...state.answers].map(r => r.map(quote).join(",")).join("\\r\\n") + "\\r\\n";
}
function save() {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  a.download = "answers-" + state.visitor + ".csv"; a.click();
}
function show() {
  for (const id of ["reference", "pictures", "choices"]) $(id).replaceChildren();
  $("progress").max = state.total; $("progress").value = state.at;
  const q = state.questions[state.at];
  shown = performance.now();
  if (!q) {
    $("question").textContent = "Thank you. Please save your answers and send them back.";
    button($("choices"), "Save answers (CSV)", "save").onclick = save;
    $("note").textContent = state.answers.length + " answers";
    document.body.dataset.done = "1"; return;
  }
  $("note").textContent = (state.at + 1) + " of " + state.total;
  if (q.kind === "pair") {
    $("question").textContent = data.question;
    if (data.reference) picture($("reference"), source(q.item, data.reference), "original");
    for (const side of ["left", "right"])
      picture(button($("pictures"), "", side), source(q.item, q[side]), side);
    button($("choices"), "no difference", "equal");
  } else {
    $("question").textContent = "Which expression does this face show?";
    picture($("pictures"), source(q.item, q.method), "face");
    for (const name of data.classes) button($("choices"), name, name);
    button($("choices"), "none of these", "none");
  }
}
addEventListener("keydown", e => { const v = { ArrowLeft: "left", ArrowRight: "right", ArrowDown: "equal" }[e.key];
  const q = state.questions[state.at]; if (v && q && q.kind === "pair") answer(v); });
window.study = { state, csv };
show();
"""
