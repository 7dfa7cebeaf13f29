// The page's only script: takes what the coordinator tells (server-sent events), draws it, and asks for looks into the
// network. It keeps what it was told and nothing else; a lost connection is made again and begins with everything.
'use strict';

const $ = (id) => document.getElementById(id);
const count = (value) => Math.round(value).toLocaleString('en-US');
// JSON has no number for what is not finite: it comes as null.
const number = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : 'not finite');
const percent = (share, digits = 1) => (Number.isFinite(share) ? `${number(share * 100, digits)}\u00a0%` : 'not finite');
const milliseconds = (seconds) => (seconds >= 0.1 ? `${seconds.toFixed(2)} s` : `${(seconds * 1000).toFixed(1)} ms`);
const clock = (seconds) => {
  const all = Math.max(0, Math.ceil(seconds));
  const two = (value) => String(value).padStart(2, '0');
  const [h, m, s] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
};
// What is live is said aloud with every change, even to the same words.
const say = (box, text) => { if (box.textContent !== text) box.textContent = text; };
const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'className') made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
// The browser's and the system's own keys, such as those that enlarge the page.
const isCommand = (event) => event.ctrlKey || event.metaKey || event.altKey;
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ---------------------------------------------------------------------------------------------- what was told

const told = { facts: null, progress: {}, points: [], width: 1, epochs: [], events: [], notices: [],
  workers: null, validation: null, test: null, predictions: null, ended: null };

function forget() {
  Object.assign(told, { points: [], epochs: [], events: [], notices: [], workers: null, validation: null, test: null,
    predictions: null, ended: null });
}

function take(message) {
  if (message.facts) {
    // Another run at the same address: nothing of the page is true of it.
    if (told.facts && told.facts.run_id !== message.facts.run_id) { source.close(); location.reload(); return; }
    told.facts = message.facts;
    showFacts();
  }
  told.progress = message.progress;
  if (message.curve) {
    if (message.curve.replace) told.points = [];
    told.points.push(...message.curve.points);
    told.width = message.curve.width;
  }
  if (message.epochs) { told.epochs = message.epochs; showEpochs(); }
  if (message.events) { told.events = told.events.concat(message.events).slice(-200); showEvents(); }
  if (message.notices) { told.notices = message.notices; showNotices(); }
  if (message.workers) { told.workers = message.workers; showWorkers(); }
  if (message.validation) told.validation = message.validation;
  if (message.test) told.test = message.test;
  if (message.predictions) { told.predictions = message.predictions; showPredictions(); }
  if (message.test || message.predictions || message.validation) showConfusion();
  $('workers-title').textContent = told.ended || message.ended ? 'Workers, over their whole time' : 'Workers';
  if (told.facts && told.facts.from_files && !told.workers) {
    $('worker-rows').firstElementChild.firstElementChild.textContent = 'The files do not say; the events tell who joined.';
  }
  if (message.ended) told.ended = { ...message.ended, stays: message.stays === true };
  showProgress();
  showFigures();
  drawCharts();
}

let source = null;
function connect() {
  source = new EventSource('api/stream');
  source.onopen = forget;
  source.onmessage = (event) => {
    take(JSON.parse(event.data));
    if (told.ended && !told.ended.stays) source.close();
  };
  source.onerror = () => {
    if (told.ended) {
      // A server that stayed is gone, for now at least; the browser goes on asking.
      told.ended.stays = false;
      showProgress();
      return;
    }
    setState('trouble', 'connection lost, trying again');
    // A refusal (too many pages) ends the browser's own attempts.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 5000);
  };
}

// ---------------------------------------------------------------------------------------------- progress, figures

function setState(state, text) {
  $('state').dataset.state = state;
  say($('state'), text);
}

function showProgress() {
  const { facts, progress, ended } = told;
  // Without the data of a run that is over it is not known how many steps were planned.
  const steps = facts ? facts.steps || (ended ? progress.step : 0) : 0;
  const share = steps > 0 ? Math.min(1, progress.step / steps) : 0;
  $('percent').textContent = `${Math.floor(share * 100)} %`;
  $('bar').value = share;
  $('where').textContent = steps > 0
    ? `step ${count(progress.step)} of ${count(steps)}, epoch ${count(Math.max(1, progress.epoch))} of ${count(facts.epochs)}` : '';
  const left = progress.steps_per_second ? (steps - progress.step) / progress.steps_per_second : null;
  $('left').textContent = ended ? (ended.stays || !facts ? '' : `the server has ended; coordinator show ${facts.directory} shows this again`) : progress.waiting ? '' : left === null ? 'time left is not known yet' : `${clock(left)} left`;
  document.title = `${Math.floor(share * 100)} % · Lockstep`;
  if (ended) setState(ended.well ? 'done' : 'trouble', ended.how);
  else if (!steps) setState('connecting', 'preparing the data');
  else if (progress.waiting) setState('trouble', 'waiting for a worker');
  else if (!progress.step) setState('connecting', 'waiting for the first step');
  else setState('training', progress.step >= steps ? 'evaluating' : 'training');
  const split = progress.split;
  if (split) {
    const parts = ['send', 'wait', 'reduce', 'update', 'other'];
    const words = ['sends', 'waits for workers', 'adds gradients', 'updates weights', 'everything else'];
    stack($('step-split'), parts, split);
    $('split-of').textContent = ended ? 'mean of the run' : 'now';
    const text = $('step-split-text');
    if (!text.childElementCount) {
      parts.forEach((part, index) => text.append(element('span', { className: 'item' },
        element('i', { className: `key part ${part}` }), `${words[index]} `, element('b')), ' '));
      for (const key of text.querySelectorAll('.key')) key.style.width = '9px';
    }
    text.querySelectorAll('b').forEach((span, index) => { span.textContent = percent(split[index], 0); });
  }
}

function stack(box, parts, shares) {
  while (box.childElementCount < parts.length) box.append(element('div', { className: `part ${parts[box.childElementCount]}` }));
  shares.forEach((share, index) => { box.children[index].style.width = `${(share * 100).toFixed(2)}%`; });
}

// A run that ends within an epoch is validated there.
function when(epoch) {
  const per = told.facts && told.facts.steps_per_epoch;
  return per && epoch.step < epoch.epoch * per ? `after step ${count(epoch.step)}` : `after epoch ${epoch.epoch}`;
}

function showFigures() {
  const { progress, epochs, test, predictions, facts, ended } = told;
  const last = epochs[epochs.length - 1];
  $('figure-loss').textContent = progress.step ? number(progress.loss, 4) : '–';
  $('figure-accuracy').textContent = progress.step ? percent(progress.accuracy) : '–';
  if (last && last.val_accuracy !== null) {
    $('figure-validation').textContent = percent(last.val_accuracy);
    $('figure-validation-sub').textContent = `loss ${number(last.val_loss, 4)} ${when(last)}`;
  }
  if (test) {
    $('figure-test').textContent = percent(test.accuracy);
    $('figure-test-sub').textContent = `loss ${number(test.loss, 4)}, ${facts && facts.test_examples ? `all ${count(facts.test_examples)} digits` : 'all digits'}`;
  } else if (predictions) {
    $('figure-test').textContent = percent(predictions.correct / predictions.examples);
    $('figure-test-sub').textContent = `first ${count(predictions.examples)} digits, step ${count(predictions.step)}`;
  }
  if (progress.examples_per_second) {
    $('figure-rate').textContent = count(progress.examples_per_second);
    const [sent, received] = progress.bytes || [0, 0];
    const of = ended ? 'examples/s, mean of the run' : 'examples/s now';
    $('figure-rate-sub').textContent = progress.bytes ? `${of}, ${count((sent + received) / 1000)} kB a step` : of;
  }
}

// ---------------------------------------------------------------------------------------------- curves

const STEP = 0, LOSS = 1, LOW = 2, HIGH = 3, ACCURACY = 4, RATE = 5, SECONDS = 6;
const charts = {
  loss: { name: 'Loss', canvas: $('chart-loss'), readout: $('readout-loss'), column: LOSS, epoch: 'val_loss', text: (v) => number(v, 4), zero: true, band: true },
  accuracy: { name: 'Accuracy', canvas: $('chart-accuracy'), readout: $('readout-accuracy'), column: ACCURACY, epoch: 'val_accuracy', text: (v) => percent(v), top: 1 },
  rate: { name: 'Examples per second', canvas: $('chart-rate'), readout: $('readout-rate'), column: RATE, text: count, zero: true },
};
// The steps that are shown; null is all of them. The step that is read; null is none. It is kept as a step, as points
// become fewer.
let zoom = null;
let cursor = null;
let drag = null;
// Where a finger took hold of a curve that is zoomed, and what was shown then.
let hold = null;
let drawing = false;

function drawCharts() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    for (const chart of Object.values(charts)) drawChart(chart);
  });
}

function whole() {
  const last = told.points.length ? told.points[told.points.length - 1][STEP] : 1;
  const first = told.points.length ? Math.max(0, told.points[0][STEP] - told.width) : 0;
  return [first, Math.max(first + 1, last)];
}

function range() { return zoom ?? whole(); }

function smoothed(column) {
  const weight = $('smoothing').value / 100;
  let sum = 0, all = 0;
  return told.points.map((point) => {
    if (point[column] !== null) { sum = sum * weight + point[column]; all = all * weight + 1; }
    return all ? sum / all : null;
  });
}

function ticks(from, to, most, least = 0) {
  const rough = Math.max(least, (to - from) / most);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const result = [];
  for (let at = Math.ceil(from / step) * step; at <= to + step * 1e-9; at += step) result.push(at);
  return { at: result, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function drawChart(chart) {
  const { canvas, column } = chart;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  const inner = { left: 46, right: width - 8, top: 10, bottom: height - 22 };
  const [from, to] = range();
  const line = smoothed(column);
  const inside = (step) => step >= from - told.width && step <= to + told.width;
  const shown = told.points.map((point, index) => index).filter((index) => inside(told.points[index][STEP]));
  const epochs = chart.epoch ? told.epochs.filter((e) => e[chart.epoch] !== null && e.step >= from && e.step <= to) : [];
  let least = Infinity, greatest = -Infinity;
  const see = (value) => { if (value !== null && Number.isFinite(value)) { least = Math.min(least, value); greatest = Math.max(greatest, value); } };
  const raw = shown.map((index) => told.points[index][column]).filter((value) => value !== null).sort((a, b) => a - b);
  // The outermost hundredth of single batches does not squeeze the rest.
  see(raw[Math.floor(raw.length * 0.01)] ?? null);
  see(raw[Math.ceil(raw.length * 0.99) - 1] ?? null);
  shown.forEach((index) => see(line[index]));
  epochs.forEach((epoch) => see(epoch[chart.epoch]));
  if (least > greatest) [least, greatest] = [0, 1];
  const margin = (greatest - least || Math.abs(greatest) || 1) * 0.06;
  least -= margin; greatest += margin;
  if (chart.zero) least = zoom && column === LOSS ? Math.max(0, least) : 0;
  if (chart.top) { greatest = Math.min(greatest, chart.top); least = Math.max(0, least); }
  const x = (step) => inner.left + (step - from) / (to - from) * (inner.right - inner.left);
  const y = (value) => inner.bottom - (value - least) / (greatest - least) * (inner.bottom - inner.top);
  chart.geometry = { inner, from, to };

  context.font = '11px system-ui, sans-serif';
  context.lineWidth = 1;
  const vertical = ticks(least, greatest, height > 150 ? 5 : 3);
  context.textAlign = 'right';
  context.textBaseline = 'middle';
  for (const value of vertical.at) {
    context.strokeStyle = color('--grid');
    context.beginPath(); context.moveTo(inner.left, Math.round(y(value)) + 0.5); context.lineTo(inner.right, Math.round(y(value)) + 0.5); context.stroke();
    context.fillStyle = color('--faint');
    const text = column === RATE ? (value >= 1000 ? `${(value / 1000).toFixed(value % 1000 ? 1 : 0)}k` : count(value))
      : column === ACCURACY ? `${(value * 100).toFixed(Math.max(0, vertical.digits - 2))} %` : value.toFixed(vertical.digits);
    context.fillText(text, inner.left - 7, y(value));
  }
  context.textBaseline = 'alphabetic';
  context.textAlign = 'center';
  for (const value of ticks(from, to, Math.max(3, width / 110), 1).at) {
    if (x(value) < inner.left - 1) continue;
    context.textAlign = x(value) > inner.right - 16 ? 'right' : x(value) < inner.left + 8 ? 'left' : 'center';
    context.fillText(count(value), Math.min(x(value), inner.right), height - 6);
  }
  if (!told.points.length) {
    context.textAlign = 'center';
    context.fillText('nothing yet', (inner.left + inner.right) / 2, (inner.top + inner.bottom) / 2);
  }

  context.save();
  context.beginPath(); context.rect(inner.left, 0, inner.right - inner.left, inner.bottom + 1); context.clip();
  if (chart.band && told.width > 1) {
    context.fillStyle = color('--raw');
    context.globalAlpha = 0.28;
    context.beginPath();
    const known = shown.map((index) => told.points[index]).filter((p) => p[LOW] !== null && p[HIGH] !== null);
    known.forEach((p, n) => (n ? context.lineTo(x(p[STEP]), y(p[HIGH])) : context.moveTo(x(p[STEP]), y(p[HIGH]))));
    known.reverse().forEach((p) => context.lineTo(x(p[STEP]), y(p[LOW])));
    context.fill();
    context.globalAlpha = 1;
  }
  const path = (style, thickness, value) => {
    context.strokeStyle = style; context.lineWidth = thickness; context.lineJoin = 'round';
    context.beginPath();
    let pen = false;
    for (const index of shown) {
      const v = value(index);
      if (v === null) { pen = false; continue; }
      pen ? context.lineTo(x(told.points[index][STEP]), y(v)) : context.moveTo(x(told.points[index][STEP]), y(v));
      pen = true;
    }
    context.stroke();
  };
  path(color('--raw'), 1, (index) => told.points[index][column]);
  path(color('--train'), 1.8, (index) => line[index]);
  if (chart.epoch) {
    context.strokeStyle = context.fillStyle = color('--validation');
    context.lineWidth = 1.6;
    context.beginPath();
    epochs.forEach((epoch, n) => (n ? context.lineTo(x(epoch.step), y(epoch[chart.epoch])) : context.moveTo(x(epoch.step), y(epoch[chart.epoch]))));
    context.stroke();
    for (const epoch of epochs) { context.beginPath(); context.arc(x(epoch.step), y(epoch[chart.epoch]), 3, 0, 7); context.fill(); }
  }
  if (drag && drag.to !== null) {
    context.fillStyle = color('--train'); context.globalAlpha = 0.14;
    context.fillRect(x(Math.min(drag.from, drag.to)), inner.top, Math.abs(x(drag.to) - x(drag.from)), inner.bottom - inner.top);
    context.globalAlpha = 1;
  }
  const index = cursor === null ? null : nearest(cursor);
  if (index !== null) {
    const point = told.points[index];
    context.strokeStyle = color('--faint'); context.lineWidth = 1;
    context.beginPath(); context.moveTo(Math.round(x(point[STEP])) + 0.5, inner.top); context.lineTo(Math.round(x(point[STEP])) + 0.5, inner.bottom); context.stroke();
    context.fillStyle = color('--train');
    if (line[index] !== null) { context.beginPath(); context.arc(x(point[STEP]), y(line[index]), 3.5, 0, 7); context.fill(); }
    const per = told.facts && told.facts.steps_per_epoch;
    const epoch = [...told.epochs].reverse().find((e) => e.step <= point[STEP]);
    const said = [`step ${count(point[STEP])}${per ? `, epoch ${Math.floor((point[STEP] - 1) / per) + 1}` : ''}, after ${clock(point[SECONDS])} of training`,
      `${told.width > 1 ? `mean of ${told.width} batches` : 'batch'} ${chart.text(point[column])}`,
      line[index] === null ? '' : `smoothed ${chart.text(line[index])}`,
      chart.epoch && epoch && epoch[chart.epoch] !== null ? `validation ${chart.text(epoch[chart.epoch])} ${when(epoch)}` : ''];
    say(chart.readout, said.filter(Boolean).join(' · '));
    canvas.setAttribute('aria-valuenow', point[STEP]);
    canvas.setAttribute('aria-valuetext', chart.readout.textContent);
  } else {
    say(chart.readout, '');
    canvas.setAttribute('aria-valuenow', 0);
    canvas.setAttribute('aria-valuetext', 'nothing is read yet; arrow keys read values');
  }
  context.restore();
  canvas.dataset.points = String(shown.length);
  canvas.setAttribute('aria-valuemax', told.points.length ? told.points[told.points.length - 1][STEP] : 0);
  const end = line[line.length - 1];
  // A name that changes under the focus would be said again and again.
  if (end != null && canvas !== document.activeElement) {
    const checked = chart.epoch && epochs.length ? `, validation ${chart.text(epochs[epochs.length - 1][chart.epoch])}` : '';
    canvas.setAttribute('aria-label', `${chart.name} over steps ${count(from)} to ${count(to)}: smoothed ${chart.text(end)} at the end${checked}.`);
  }
}

function nearest(step) {
  let [low, high] = [0, told.points.length - 1];
  if (high < 0) return null;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (told.points[middle][STEP] < step) low = middle; else high = middle;
  }
  return step - told.points[low][STEP] <= told.points[high][STEP] - step ? low : high;
}

// Shows these steps, moved to where there are some; null is all.
function setZoom(next) {
  const [first, last] = whole();
  const [from, to] = next ? [Math.min(...next), Math.max(...next)] : [first, last];
  const width = to - from;
  const start = Math.max(first, Math.min(last - width, from));
  if (width >= last - first) zoom = null;
  // Narrower there would be no line.
  else if (width >= 2 * told.width) zoom = [start, start + width];
  $('whole').disabled = $('zoom-out').disabled = zoom === null;
  drawCharts();
}

// To a factor of what is shown, around what is read or else the middle.
function zoomBy(factor) {
  const [from, to] = range();
  const middle = cursor ?? (from + to) / 2;
  const half = (to - from) * factor / 2;
  setZoom([middle - half, middle + half]);
}

for (const chart of Object.values(charts)) {
  const { canvas } = chart;
  const stepAt = (event) => {
    const { inner, from, to } = chart.geometry;
    const at = (event.clientX - canvas.getBoundingClientRect().left - inner.left) / (inner.right - inner.left);
    return from + Math.max(0, Math.min(1, at)) * (to - from);
  };
  canvas.addEventListener('pointermove', (event) => {
    if (!chart.geometry) return;
    if (hold) {
      const { left, right } = chart.geometry.inner;
      const moved = (hold.x - event.clientX) / (right - left) * (hold.to - hold.from);
      setZoom([hold.from + moved, hold.to + moved]);
      return;
    }
    cursor = stepAt(event);
    if (drag) drag.to = stepAt(event);
    drawCharts();
  });
  // A finger always leaves; what it has read stays.
  canvas.addEventListener('pointerleave', (event) => { if (!drag && event.pointerType !== 'touch') { cursor = null; drawCharts(); } });
  canvas.addEventListener('pointerdown', (event) => {
    if (!chart.geometry || event.button !== 0) return;
    if (event.pointerType === 'touch') {
      cursor = stepAt(event);
      if (zoom) hold = { x: event.clientX, from: zoom[0], to: zoom[1] };
      drawCharts();
      return;
    }
    canvas.setPointerCapture(event.pointerId);
    drag = { from: stepAt(event), to: null };
  });
  const drop = () => {
    if (drag && drag.to !== null && Math.abs(drag.to - drag.from) > (range()[1] - range()[0]) / 100) setZoom([drag.from, drag.to]);
    drag = hold = null;
    drawCharts();
  };
  canvas.addEventListener('pointerup', drop);
  canvas.addEventListener('pointercancel', drop);
  canvas.addEventListener('dblclick', () => setZoom(null));
  canvas.addEventListener('keydown', (event) => {
    const last = told.points.length - 1;
    if (last < 0 || isCommand(event)) return;
    const stride = event.shiftKey ? Math.max(1, Math.round(last / 20)) : 1;
    const read = (index) => { cursor = told.points[Math.max(0, Math.min(last, index))][STEP]; };
    const act = {
      ArrowLeft: () => read((cursor === null ? last + 1 : nearest(cursor)) - stride),
      ArrowRight: () => read((cursor === null ? -1 : nearest(cursor)) + stride),
      Home: () => read(0), End: () => read(last),
      '+': () => zoomBy(0.5), '-': () => zoomBy(2),
      0: () => setZoom(null), Escape: () => { cursor = null; setZoom(null); },
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
    drawCharts();
  });
}
$('zoom-in').addEventListener('click', () => zoomBy(0.5));
$('zoom-out').addEventListener('click', () => zoomBy(2));
$('whole').addEventListener('click', () => setZoom(null));
$('smoothing').addEventListener('input', drawCharts);
new ResizeObserver(drawCharts).observe(document.body);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { drawCharts(); repaint(); });

// ---------------------------------------------------------------------------------------------- workers, events

const STATES = { working: 'works', idle: 'idle', late: 'late', gone: 'gone' };
const MOST_ROWS = 64;

function showWorkers() {
  const rows = told.workers.workers.slice(0, MOST_ROWS).map((worker) => {
    const state = worker.straggler && worker.state === 'working' ? 'straggler' : STATES[worker.state];
    const row = element('tr', { 'data-state': worker.state, 'data-straggler': worker.straggler, 'data-worker': worker.name });
    const share = element('div', { className: 'stack' });
    stack(share, ['compute'], [worker.share]);
    const split = element('div', { className: 'stack', role: 'img',
      'aria-label': `computes ${percent(worker.compute_share, 0)}, on the way ${percent(worker.transfer_share, 0)}, waits ${percent(worker.wait_share, 0)} of the time` });
    stack(split, ['compute', 'transfer', 'wait'], [worker.compute_share, worker.transfer_share, worker.wait_share]);
    const gone = worker.state === 'gone';
    row.append(
      element('td', {}, worker.name, ' ', element('span', { className: 'id' }, `#${worker.worker}`)),
      element('td', { className: 'full' }, element('span', { className: 'worker-state' }, state), element('span', { className: 'why' }, worker.reason)),
      element('td', { className: 'full', 'data-title': 'on' }, `${worker.host}, process ${worker.pid}, ${worker.cpu}`),
      element('td', { className: 'number', 'data-title': 'threads' }, String(worker.threads)),
      element('td', { className: 'full', 'data-title': 'share of the batch' }, gone ? '' : element('div', { className: 'meter' }, share, element('span', { className: 'number' }, percent(worker.share, 0)))),
      element('td', { className: 'number', 'data-title': 'examples/s' }, gone ? '–' : count(worker.examples_per_second)),
      element('td', { className: 'number', 'data-title': 'latency' }, worker.latency_seconds === null ? '–' : milliseconds(worker.latency_seconds)),
      element('td', { className: 'full' }, gone ? '' : split));
    return row;
  });
  const more = told.workers.workers.length - rows.length;
  if (more > 0) rows.push(element('tr', {}, element('td', { colspan: '8', className: 'empty' }, `and ${more} more`)));
  if (!rows.length) rows.push(element('tr', {}, element('td', { colspan: '8', className: 'empty' }, 'Nobody is there.')));
  $('worker-rows').replaceChildren(...rows);
}

// The data that were not meant come first; what lasts is not hidden by what happens after it.
function showNotices() {
  const lines = told.notices.map((notice) => [notice.sentence, notice.over]);
  if (told.facts && told.facts.dataset_fallback) {
    lines.unshift(['The data of this run are generated digits, not MNIST, which could not be had: its accuracy says nothing about MNIST.', false]);
  }
  const text = lines.map(([sentence]) => sentence).join();
  if ($('notices').dataset.text === text) return;
  $('notices').dataset.text = text;
  $('notices').replaceChildren(...lines.map(([sentence, over]) =>
    element('p', { 'data-over': over }, sentence[0].toUpperCase() + sentence.slice(1) + (sentence.endsWith('.') ? '' : '.'))));
}

const ALARMS = ['worker_dropped', 'process_ended', 'worker_refused', 'copies_differ', 'roll_back', 'waiting', 'stalled', 'not_saved', 'log_failed',
  'disk_behind', 'disk_stalled', 'records_lost', 'contradicted'];

function showEvents() {
  $('events').replaceChildren(...told.events.slice(-60).reverse().map((event) =>
    element('li', { 'data-kind': event.kind, 'data-alarm': ALARMS.includes(event.kind) },
      element('time', { title: `after step ${event.step}` }, `${event.seconds.toFixed(2)} s`), element('span', {}, event.reason))));
}

// ---------------------------------------------------------------------------------------------- test digits

let images = null;
const imageOf = (index) => images && images.subarray(index * 784, (index + 1) * 784);

async function loadImages() {
  const answer = await fetch('api/digits');
  if (!answer.ok) throw new Error(`no digits: ${answer.status}`);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (bytes.length) {
    images = bytes;
    showPredictions();
    // Nobody has to draw, or to come there, to see the network at work.
    if (subject === null && !clearedByHand) lookAtDigit(0);
  }
}

// Three stops between 0 and 1.
function ramp(low, middle, high) {
  const parse = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  const stops = [parse(low), parse(middle), parse(high)];
  return Array.from({ length: 256 }, (_, value) => {
    const at = value / 127.5;
    const [a, b] = at < 1 ? [stops[0], stops[1]] : [stops[1], stops[2]];
    return a.map((from, channel) => from + (b[channel] - from) * (at < 1 ? at : at - 1));
  });
}

function paintDigit(canvas, pixels) {
  const [paper, ink] = [color('--digit-paper'), color('--digit-ink')];
  const colors = ramp(paper, mix(paper, ink), ink);
  paintBytes(canvas, 28, 28, pixels, colors);
}

function mix(a, b) {
  const parse = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  const [left, right] = [parse(a), parse(b)];
  return '#' + left.map((value, n) => Math.round((value + right[n]) / 2).toString(16).padStart(2, '0')).join('');
}

function paintBytes(canvas, width, height, bytes, colors) {
  if (canvas.width !== width) canvas.width = width;
  if (canvas.height !== height) canvas.height = height;
  const context = canvas.getContext('2d');
  const picture = context.createImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    const [r, g, b] = colors[bytes[at]];
    picture.data.set([r, g, b, 255], at * 4);
  }
  context.putImageData(picture, 0, 0);
}

function digitButton(index) {
  const button = element('button', { type: 'button', 'data-index': index }, element('canvas'), element('span'));
  button.addEventListener('click', () => { chooseDigit(Number(button.dataset.index)); $('inside').scrollIntoView({ block: 'start' }); });
  return button;
}

function showPredictions() {
  const { predictions } = told;
  if (!predictions) return;
  const grid = $('digit-grid');
  if (!images) { if (!showPredictions.asked) { showPredictions.asked = true; loadImages().catch(() => { showPredictions.asked = false; }); } return; }
  const right = predictions.shown.filter(([label, predicted]) => label === predicted).length;
  $('digits-sub').textContent = `after step ${count(predictions.step)}: ${right} of these ${predictions.shown.length} right, ${count(predictions.correct)} of the first ${count(predictions.examples)} (${percent(predictions.correct / predictions.examples)})`;
  predictions.shown.forEach(([label, predicted, probability], index) => {
    let button = grid.children[index];
    if (!button) {
      button = digitButton(index);
      button.tabIndex = index ? -1 : 0;
      grid.append(button);
      paintDigit(button.firstChild, imageOf(index));
    }
    const good = label === predicted;
    button.className = good ? 'is-right' : 'is-wrong';
    button.lastChild.className = good ? 'right' : 'wrong';
    button.lastChild.textContent = `${good ? '✓' : '✗'} ${predicted}`;
    const said = `${good ? 'right' : 'wrong'}: this ${label} is read as ${predicted} with ${percent(probability, 0)}`;
    if (button.title !== said) { button.title = said; button.setAttribute('aria-label', said); }
  });
  showWorst(predictions.worst);
}

// The buttons stay where they are, and with them whoever is on one.
function showWorst(mistakes) {
  const box = $('worst');
  if (!mistakes.length) box.replaceChildren(element('p', { className: 'empty' }, 'None: every digit of the sample is right.'));
  else if (!box.querySelector('button')) box.replaceChildren();
  while (box.children.length > mistakes.length && mistakes.length) {
    const surplus = box.lastChild;
    if (surplus === document.activeElement) surplus.previousSibling.focus();
    surplus.remove();
  }
  mistakes.forEach(([index, label, predicted, probability], n) => {
    if (n === box.children.length) box.append(digitButton(index));
    const button = box.children[n];
    button.dataset.index = index;
    paintDigit(button.firstChild, imageOf(index));
    button.lastChild.replaceChildren(element('span', { className: 'wrong' }, `✗ ${predicted}`), ` ${percent(probability, 0)}`, element('br'), `is ${label}`);
    button.setAttribute('aria-label', `this ${label} is read as ${predicted} with ${percent(probability, 0)}`);
  });
}

$('digit-grid').addEventListener('keydown', (event) => {
  if (isCommand(event)) return;
  const grid = event.currentTarget;
  const columns = getComputedStyle(grid).gridTemplateColumns.split(' ').length;
  const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const at = [...grid.children].indexOf(document.activeElement);
  const next = grid.children[at + move];
  if (move === undefined || !next) return;
  event.preventDefault();
  document.activeElement.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

function showConfusion() {
  const { test, predictions, validation } = told;
  const [counts, of] = test ? [test.confusion, 'the whole test set, at the end']
    : predictions ? [predictions.confusion, `the first ${count(predictions.examples)} test digits, after step ${count(predictions.step)}`]
      : [validation.confusion, 'the validation set'];
  $('confusion-sub').textContent = `A row for each true digit, a column for each prediction. Counted on ${of}.`;
  const head = element('tr', {}, element('th', { scope: 'col' }, 'true'), ...Array.from({ length: 10 }, (_, digit) => element('th', { scope: 'col' }, String(digit))));
  const good = color('--good'), bad = color('--bad');
  const rows = Array.from({ length: 10 }, (_, label) => {
    const row = counts.slice(label * 10, label * 10 + 10);
    const all = row.reduce((a, b) => a + b, 0) || 1;
    return element('tr', {}, element('th', { scope: 'row' }, String(label)), ...row.map((n, predicted) => {
      const cell = element('td', n ? {} : { className: 'zero' }, n ? String(n) : '·');
      const strength = Math.min(70, n / all * (label === predicted ? 45 : 400));
      if (n) cell.style.background = `color-mix(in srgb, ${label === predicted ? good : bad} ${strength.toFixed(0)}%, transparent)`;
      if (label === predicted) cell.style.fontWeight = '600';
      return cell;
    }));
  });
  $('confusion').replaceChildren(element('thead', {}, head), element('tbody', {}, ...rows));
}

// ---------------------------------------------------------------------------------------------- inside the network

const LAYERS = [
  ['conv1', 'Convolution 1', '16 maps of 26 × 26', 'Sixteen small stencils of 3 by 3 slide over the image, and each map lights up wherever its stencil fits: an edge of some direction, the end of a stroke, a spot of ink.', 8],
  ['pool1', 'Pooling 1', '16 maps of 13 × 13', 'Of every 2 by 2 places only the strongest answer is kept, so that a stroke may shift by a pixel and still be found.', 8],
  ['conv2', 'Convolution 2', '32 maps of 11 × 11', 'Thirty-two stencils look at all sixteen maps at once and answer to combinations: corners, bends, crossings.', 16],
  ['pool2', 'Pooling 2', '32 maps of 5 × 5', 'Again the strongest of every 2 by 2: what was found begins to matter more than where exactly.', 16],
  ['conv3', 'Convolution 3', '32 maps of 3 × 3', 'Thirty-two more stencils put bends together into parts of digits; each of their nine places sees 18 by 18 of the 28 by 28 pixels.', 16],
  ['dense1', 'Dense 1', '64 units', 'Each of sixty-four units weighs all 288 values before it, and says how much of its own mixture of parts is there.', 32],
];
const pad = $('pad');
const ink = pad.getContext('2d', { willReadFrequently: true });
let subject = null;       // null, 'drawing', or the index of a test digit
let wishes = 0;           // changes of the subject: an answer to an earlier one is none
let look = null;          // the last answer
let asking = false, askAgain = false;
let acted = false;        // somebody chose or drew, and waits for the answer to be said
let clearedByHand = false;
let pen = { x: 140, y: 140, down: false };
let stroke = null;        // where the pointer that draws is

function build() {
  const layers = $('layers');
  const box = element('article', { className: 'layer input' }, element('h3', {}, 'Input', element('small', {}, '28 × 28 grey values')),
    element('p', {}, 'What the network is given: the drawing cut to its ink, scaled and centred, like the digits it was trained on.'),
    element('canvas', { id: 'layer-input', role: 'img', 'data-title': 'Input' }));
  layers.append(box);
  for (const [name, title, size, sentence] of LAYERS) {
    layers.append(element('article', { className: 'layer' }, element('h3', {}, title, element('small', {}, size)),
      element('p', {}, sentence), element('canvas', { id: `layer-${name}`, role: 'img', 'data-title': title })));
  }
  layers.append(element('article', { className: 'layer' }, element('h3', {}, 'Output', element('small', {}, '10 probabilities')),
    element('p', {}, 'Ten weighted sums of those sixty-four become ten probabilities that add up to one; the greatest is the answer above.')));
  for (let digit = 0; digit < 10; digit++) {
    $('probabilities').append(element('li', {}, element('b', {}, String(digit)),
      element('div', { className: 'track' }, element('div', { className: 'fill' })), element('span', { className: 'value' }, '')));
  }
  clearAll();
}

function clearPad() {
  ink.fillStyle = '#000';
  ink.fillRect(0, 0, pad.width, pad.height);
}

function strokeTo(x, y, from) {
  ink.strokeStyle = ink.fillStyle = '#fff';
  ink.lineWidth = 22;
  ink.lineCap = ink.lineJoin = 'round';
  ink.beginPath();
  ink.moveTo(from ? from.x : x, from ? from.y : y);
  ink.lineTo(x + 0.01, y);
  ink.stroke();
  subject = 'drawing';
  acted = true;
  ask();
}

function drawingBytes() {
  const { data } = ink.getImageData(0, 0, 280, 280);
  // A quarter of the pixels is enough: 140 by 140.
  const bytes = new Uint8Array(140 * 140);
  for (let y = 0; y < 140; y++) for (let x = 0; x < 140; x++) bytes[y * 140 + x] = data[((y * 2) * 280 + x * 2) * 4];
  return bytes;
}

// Asks for a look; while one is under way only the newest wish waits.
async function ask() {
  if (subject === null) return;
  if (asking) { askAgain = true; return; }
  asking = true;
  const wish = wishes;
  const of = subject;
  lookedAt = moment();
  try {
    const answer = of === 'drawing'
      ? await fetch('api/look', { method: 'POST', headers: { 'content-type': 'application/octet-stream' }, body: drawingBytes() })
      : await fetch(`api/look/${of}`);
    if (answer.ok) {
      const bytes = new Uint8Array(await answer.arrayBuffer());
      const end = bytes.indexOf(10);
      if (wish === wishes) {
        look = { ...JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))), values: bytes.subarray(end + 1), of };
        showLook();
      }
    }
  } catch {
    // The server is gone; the header says so.
  } finally {
    asking = false;
    if (askAgain) { askAgain = false; ask(); }
  }
}

function showLook() {
  if (!look) return;
  const { predicted, probabilities, of } = look;
  $('layers').classList.remove('unlit');
  const verdict = `${of === 'drawing' ? '' : `Test digit ${of}: `}it reads a ${predicted}, with ${percent(probabilities[predicted])}`;
  const before = $('verdict').dataset.predicted;
  const changed = before !== undefined && before !== String(predicted);
  say($('verdict'), verdict[0].toUpperCase() + verdict.slice(1));
  $('verdict').dataset.predicted = String(predicted);
  // While the weights change the share does, each second; that is for the eye.
  if ((acted && !stroke) || changed) { say($('announcement'), $('verdict').textContent); acted = false; }
  $('inside-step').textContent = `weights after step ${count(look.step)}`;
  [...$('probabilities').children].forEach((row, digit) => {
    row.className = digit === predicted ? 'first' : '';
    row.querySelector('.fill').style.width = `${(probabilities[digit] * 100).toFixed(2)}%`;
    row.querySelector('.value').textContent = percent(probabilities[digit]);
  });
  paintDigit($('layer-input'), look.values.subarray(0, 784));
  $('layer-input').setAttribute('aria-label', 'Input: what the network is given, 28 by 28');
  const colors = ramp(color('--map-low'), color('--map-middle'), color('--map-high'));
  const gap = color('--line');
  const gapColor = [1, 3, 5].map((at) => parseInt(gap.slice(at, at + 2), 16));
  let at = 784;
  for (const layer of look.layers) {
    const size = layer.height * layer.width * layer.channels;
    const values = look.values.subarray(at, at + size);
    at += size;
    const [name, title, , , columns] = LAYERS.find(([known]) => known === layer.name);
    const flat = layer.channels === 1;
    const maps = flat ? layer.width : layer.channels;
    const [height, width] = flat ? [1, 1] : [layer.height, layer.width];
    const canvas = $(`layer-${name}`);
    const rows = Math.ceil(maps / columns);
    // Small maps are drawn larger, so that the lines between them stay thin.
    const scale = height > 8 ? 2 : height > 2 ? 4 : 8;
    const [w, h] = [columns * (width * scale + 2) + 2, rows * (height * scale + 2) + 2];
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const context = canvas.getContext('2d');
    const picture = context.createImageData(w, h);
    for (let pixel = 0; pixel < w * h; pixel++) picture.data.set([...gapColor, 255], pixel * 4);
    let awake = 0;
    for (let map = 0; map < maps; map++) {
      const [left, top] = [map % columns * (width * scale + 2) + 2, Math.floor(map / columns) * (height * scale + 2) + 2];
      let some = false;
      for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
        const value = flat ? values[map] : values[(y * width + x) * layer.channels + map];
        some ||= value > 127;
        fillCell(picture, left + x * scale, top + y * scale, scale, colors[value]);
      }
      awake += some;
    }
    context.putImageData(picture, 0, 0);
    canvas.setAttribute('aria-label', `${title}: ${awake} of ${maps} ${flat ? 'units' : 'maps'} answer strongly somewhere; the strongest value is ${number(layer.greatest, 2)}`);
  }
}

function fillCell(picture, left, top, side, [r, g, b]) {
  for (let y = top; y < top + side; y++) for (let x = left; x < left + side; x++) {
    const at = (y * picture.width + x) * 4;
    picture.data[at] = r; picture.data[at + 1] = g; picture.data[at + 2] = b;
  }
}

function chooseDigit(index) {
  lookAtDigit(index);
  acted = true;
}

function lookAtDigit(index) {
  clearAll();
  subject = index;
  const pixels = imageOf(index);
  if (pixels) {
    const small = element('canvas');
    paintBytes(small, 28, 28, pixels, Array.from({ length: 256 }, (_, v) => [v, v, v]));
    ink.imageSmoothingEnabled = true;
    ink.drawImage(small, 0, 0, 280, 280);
  }
  ask();
}

function clearAll() {
  wishes += 1;
  subject = null;
  look = null;
  pen.down = false;
  stroke = null;
  clearPad();
  say($('verdict'), 'Nothing is drawn yet.');
  delete $('verdict').dataset.predicted;
  say($('inside-step'), '');
  for (const canvas of $('layers').querySelectorAll('canvas')) {
    canvas.getContext('2d').clearRect(0, 0, canvas.width, canvas.height);
    canvas.setAttribute('aria-label', `${canvas.dataset.title}: no picture yet`);
  }
  for (const row of $('probabilities').children) { row.className = ''; row.querySelector('.fill').style.width = '0'; row.querySelector('.value').textContent = ''; }
}

function padPoint(event) {
  const box = pad.getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width * 280, y: (event.clientY - box.top) / box.height * 280 };
}
pad.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  pad.focus({ preventScroll: true });
  pad.setPointerCapture(event.pointerId);
  if (subject !== 'drawing') clearAll();
  stroke = padPoint(event);
  strokeTo(stroke.x, stroke.y, null);
});
pad.addEventListener('pointermove', (event) => {
  if (!stroke) return;
  const events = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const each of events.length ? events : [event]) { const next = padPoint(each); strokeTo(next.x, next.y, stroke); stroke = next; }
});
for (const end of ['pointerup', 'pointercancel']) pad.addEventListener(end, () => { if (stroke) { stroke = null; ask(); } });
pad.addEventListener('keydown', (event) => {
  if (isCommand(event)) return;
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (way) {
    const next = { ...pen, x: Math.max(10, Math.min(270, pen.x + way[0] * 10)), y: Math.max(10, Math.min(270, pen.y + way[1] * 10)) };
    if (pen.down) strokeTo(next.x, next.y, pen);
    pen = next;
  } else if (event.key === ' ') {
    const down = !pen.down;
    if (down && subject !== 'drawing') clearAll();
    pen.down = down;
    if (down) strokeTo(pen.x, pen.y, null);
  } else if (event.key === 'Delete' || event.key === 'Backspace') {
    clearByHand();
  } else return;
  say($('pen'), `Pen ${pen.down ? 'down' : 'up'}, column ${Math.round(pen.x / 10)}, row ${Math.round(pen.y / 10)} of 28`);
  event.preventDefault();
});
// What somebody has cleared is not filled again of itself.
function clearByHand() {
  clearedByHand = true;
  clearAll();
}
$('clear').addEventListener('click', clearByHand);
$('pick').addEventListener('click', () => { if (images) chooseDigit(Math.floor(Math.random() * Math.min(100, images.length / 784))); });

let filters = null;
async function askFilters() {
  filtersAt = moment();
  const answer = await fetch('api/filters');
  if (answer.ok) { filters = await answer.json(); showFilters(); }
}

function showFilters() {
  if (!filters) return;
  const canvas = $('filters');
  const most = Math.max(...filters.now.map(Math.abs), ...filters.start.map(Math.abs));
  const [cell, pitch] = [8, 3 * 8 + 4];
  // A narrow page has them in two lines, each with its start above.
  const columns = canvas.parentElement.clientWidth < 480 ? 8 : 16;
  const [width, height] = [columns * pitch + 4, 32 / columns * pitch + 4];
  canvas.width = width; canvas.height = height;
  canvas.hidden = false;
  const context = canvas.getContext('2d');
  const parse = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  const [none, plus, minus, gap] = ['--panel', '--plus', '--minus', '--line'].map((name) => parse(color(name)));
  const picture = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel++) picture.data.set([...gap, 255], pixel * 4);
  [filters.start, filters.now].forEach((kernel, row) => kernel.forEach((weight, n) => {
    const [filter, tap] = [Math.floor(n / 9), n % 9];
    const strength = Math.min(1, Math.abs(weight) / most) ** 0.8;
    const target = weight > 0 ? plus : minus;
    const rgb = none.map((from, channel) => from + (target[channel] - from) * strength);
    const line = Math.floor(filter / columns) * 2 + row;
    fillCell(picture, filter % columns * pitch + 4 + tap % 3 * cell, line * pitch + 4 + Math.floor(tap / 3) * cell, cell, rgb);
  }));
  context.putImageData(picture, 0, 0);
  const moved = Array.from({ length: 16 }, (_, filter) => {
    let change = 0, start = 0;
    for (let tap = 0; tap < 9; tap++) { change += (filters.now[filter * 9 + tap] - filters.start[filter * 9 + tap]) ** 2; start += filters.start[filter * 9 + tap] ** 2; }
    return Math.sqrt(change / (start || 1));
  });
  const strongest = moved.indexOf(Math.max(...moved));
  const mean = moved.reduce((a, b) => a + b, 0) / 16;
  $('filters-sub').textContent = filters.now.includes(null) ? `After step ${count(filters.step)} some of them are not finite.` : `After step ${count(filters.step)} they have changed by ${percent(mean, 0)} of their length on average; number ${strongest + 1} most, by ${percent(moved[strongest], 0)}.`;
}

function repaint() {
  showLook();
  showFilters();
  if (images) {
    [...$('digit-grid').children].forEach((button, index) => paintDigit(button.firstChild, imageOf(index)));
    showPredictions();
  }
  if (told.test || told.predictions || told.validation) showConfusion();
}

// Asks once at the beginning and then only while the section is in sight, and not twice at the same moment of the run: its weights are the same then.
const moment = () => `${told.progress.step} ${told.ended ? 'ended' : ''}`;
let filtersAt = null, lookedAt = null;
let visible = false;
new IntersectionObserver((entries) => { visible = entries[entries.length - 1].isIntersecting; follow(); }).observe($('inside'));
function follow() {
  if (!told.facts || (filtersAt !== null && (!visible || document.hidden))) return;
  if (filtersAt !== moment()) askFilters().catch(() => { filtersAt = null; });
  if (subject === null && images && !clearedByHand) lookAtDigit(0);
  else if (subject !== null && lookedAt !== moment()) ask();
}
setInterval(follow, 1000);

// ---------------------------------------------------------------------------------------------- epochs, the run

function showEpochs() {
  const rows = told.epochs.slice(-100).reverse().map((epoch) => element('tr', {},
    element('td', { className: 'number' }, String(epoch.epoch)), element('td', { className: 'number' }, count(epoch.step)),
    element('td', { className: 'number' }, epoch.val_accuracy === null ? '–' : number(epoch.val_loss, 4)),
    element('td', { className: 'number' }, epoch.val_accuracy === null ? '–' : percent(epoch.val_accuracy, 2)),
    element('td', { className: 'mono' }, epoch.weights_digest)));
  if (rows.length) $('epoch-rows').replaceChildren(...rows);
}

function showFacts() {
  const { facts } = told;
  $('dataset').textContent = facts.dataset ? `${count(facts.train_examples)} ${facts.dataset} examples` : '';
  $('directory').textContent = facts.directory;
  showNotices();
  if (facts.no_digits) $('digits-sub').textContent = facts.no_digits;
  $('configuration').replaceChildren(...facts.configuration.map(([key, value]) =>
    element('tr', {}, element('td', {}, key), element('td', {}, value))));
  $('files').replaceChildren(...facts.files.map((name) => element('li', {}, element('a', { href: `files/${name}` }, name))));
  $('about').textContent = `Run ${facts.run_id}, Lockstep ${facts.version}.${facts.from_files ? '' : ' Files appear as the run writes them.'}`;
}

build();
connect();
