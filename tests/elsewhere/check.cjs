// Holds TensorFlow.js against the logits that check.py has left, in the current folder, which has mnist-tfjs/.
//
// usage: check.cjs MODULE, which exports TensorFlow.js or leaves it as the globals `tf` and `tfl`.
'use strict';
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

async function main(file) {
  const module = require(path.resolve(file));
  const [tf, tfl] = [globalThis.tf ?? module, globalThis.tfl ?? module];
  await tf.setBackend('cpu');
  // As a browser loads it.
  const server = http.createServer((request, response) => response.end(fs.readFileSync('.' + request.url)));
  await new Promise(listening => server.listen(0, '127.0.0.1', listening));
  const model = await tfl.loadLayersModel(`http://127.0.0.1:${server.address().port}/mnist-tfjs/model.json`);
  server.close();
  server.closeAllConnections();

  const [images, expected] = [floats('images.f32'), floats('logits.f32')];
  // One channel: the same bytes with channels first and last.
  const input = tf.tensor4d(images, [expected.length / 10, 28, 28, 1]);
  const inner = tfl.model({inputs: model.inputs, outputs: model.getLayer('dense2').output});
  const logits = difference('logits', await inner.predict(input).data(), expected);
  difference('probabilities', await model.predict(input).data(), softmax(expected));
  const one = await inner.predict(tf.tensor4d(images.subarray(0, 784), [1, 28, 28, 1])).data();
  difference('logits of one image', one, expected.subarray(0, 10));
  console.log(`TensorFlow.js ${logits.toExponential(1)}`);
}

main(process.argv[2]).catch(error => {
  console.error(error);
  process.exitCode = 1;
});
