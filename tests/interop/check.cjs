// Holds TensorFlow.js against the logits that check.py has left, in the current folder, which has mnist-tfjs/.
//
// usage: check.cjs MODULE [BUNDLE]
//   MODULE exports TensorFlow.js to Node, or leaves it as the globals `tf` and `tfl`; BUNDLE is a script that leaves them in a
//   page of Chromium.
'use strict';
const { spawn } = require('child_process');
const fs = require('fs');
const http = require('http');
const path = require('path');

const TOLERANCE = 1e-4;

const floats = file => new Float32Array(Uint8Array.from(fs.readFileSync(file)).buffer);

/** The greatest difference of two arrays of ten values an image; throws if a greatest value has another place. */
function difference(name, actual, expected) {
  if (actual.length !== expected.length) throw new Error(`${name}: ${actual.length} values, not ${expected.length}`);
  let worst = 0;
  for (let image = 0; image < expected.length; image += 10) {
    const [a, e] = [actual, expected].map(all => Array.from(all.subarray(image, image + 10)));
    if (a.indexOf(Math.max(...a)) !== e.indexOf(Math.max(...e))) throw new Error(`${name}: another class`);
    a.forEach((value, index) => { worst = Math.max(worst, Math.abs(value - e[index])); });
  }
  if (!(worst < TOLERANCE)) throw new Error(`${name} differ by ${worst}`);
  return worst;
}

function softmax(logits) {
  const all = new Float32Array(logits.length);
  for (let image = 0; image < logits.length; image += 10) {
    const row = Array.from(logits.subarray(image, image + 10));
    const exponentials = row.map(value => Math.exp(value - Math.max(...row)));
    const sum = exponentials.reduce((left, right) => left + right);
    all.set(exponentials.map(value => value / sum), image);
  }
  return all;
}

/** Logits and probabilities of `images`, and the logits of the first one alone. Runs here, and as text in a page. */
async function answers(tf, tfl, address, images) {
  await tf.setBackend('cpu');
  const model = await tfl.loadLayersModel(`${address}/mnist-tfjs/model.json`);
  // One channel: the same bytes with channels first and last.
  const input = tf.tensor4d(images, [images.length / 784, 28, 28, 1]);
  const inner = tfl.model({inputs: model.inputs, outputs: model.getLayer('dense2').output});
  const first = tf.tensor4d(images.subarray(0, 784), [1, 28, 28, 1]);
  return Promise.all([inner.predict(input), model.predict(input), inner.predict(first)].map(all => all.data()));
}

/** The greatest difference from what is expected. */
function judge(where, [logits, probabilities, one], expected) {
  difference(`${where}: probabilities`, probabilities, softmax(expected));
  difference(`${where}: logits of one image`, one, expected.subarray(0, 10));
  return difference(`${where}: logits`, logits, expected);
}

/** A page that says what it makes of the images, or why it cannot. */
const PAGE = `<!doctype html><script src="/bundle.js"></script><script>${answers}
(async () => {
  const images = new Float32Array(await (await fetch('/images.f32')).arrayBuffer());
  const found = await answers(globalThis.tf, globalThis.tfl ?? globalThis.tf, location.origin, images);
  return found.map(all => Array.from(all));
})().catch(error => String(error.stack)).then(found => fetch('/found', { method: 'POST', body: JSON.stringify(found) }));
</script>`;

async function main(file, bundle) {
  const module = require(path.resolve(file));
  const [images, expected] = [floats('images.f32'), floats('logits.f32')];
  let found;
  const said = new Promise(resolve => { found = resolve; });
  // As a browser loads it.
  const server = http.createServer((request, response) => {
    if (request.method === 'POST') {
      let text = '';
      request.on('data', part => { text += part; }).on('end', () => { response.end(); found(JSON.parse(text)); });
    } else if (request.url === '/') {
      response.setHeader('content-type', 'text/html').end(PAGE);
    } else if (request.url === '/bundle.js') {
      response.end(fs.readFileSync(bundle));
    } else {
      response.end(fs.existsSync('.' + request.url) ? fs.readFileSync('.' + request.url) : '');
    }
  });
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  const address = `http://127.0.0.1:${server.address().port}`;
  const here = await answers(globalThis.tf ?? module, globalThis.tfl ?? module, address, images);
  let line = `TensorFlow.js ${judge('Node', here, expected).toExponential(1)}`;
  if (bundle) {
    const browser = spawn('chromium', ['--headless=new', '--no-sandbox', '--disable-gpu', `${address}/`], { stdio: 'ignore' });
    const late = setTimeout(() => found('the page has said nothing within two minutes'), 120_000);
    const there = await said;
    clearTimeout(late);
    browser.kill();
    if (!Array.isArray(there)) throw new Error(`Chromium: ${there}`);
    const differs = judge('Chromium', there.map(all => Float32Array.from(all)), expected);
    line += `, in Chromium ${differs.toExponential(1)}`;
  }
  server.close();
  server.closeAllConnections();
  console.log(line);
}

main(process.argv[2], process.argv[3]).catch(error => {
  console.error(error);
  // Whatever still listens.
  process.exit(1);
});
