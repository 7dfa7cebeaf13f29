//! The dashboard in a real browser: curves are drawn, a dead worker is marked, a drawn digit is read, and nothing is
//! asked of anybody else.

mod driver;

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::dashboard::show;
use crate::harness::{
    Running, SMALL, coordinator, json_lines, kill_with_checkpoints, manifests, send_signal, start,
};
use driver::Browser;

/// WebDriver's names of keys.
const LEFT: &str = "\u{e012}";
const UP: &str = "\u{e013}";
const RIGHT: &str = "\u{e014}";
const DOWN: &str = "\u{e015}";
const DELETE: &str = "\u{e017}";
const END: &str = "\u{e010}";

/// A browser, if this machine has one.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn browser() -> Option<Browser> {
    let browser = Browser::start();
    if browser.is_none() {
        eprintln!("skipped: a browser test needs chromedriver (apt-get install chromium chromium-driver)");
    }
    browser
}

fn url_of(run: &mut Running) -> String {
    run.wait_for(|line| line.strip_prefix("dashboard ").map(str::to_string))
}

#[test]
fn the_page_shows_a_run_and_reads_a_drawn_digit() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run", "--dataset", "digits", "--examples", "6000"]);
    command.args(["--epochs", "100000", "--max-restarts", "0"]);
    let mut run = start(&mut command);
    let url = url_of(&mut run);
    let workers = run.wait_for_workers(4);
    browser.open(&url);

    browser.wait_for("['loss', 'accuracy', 'rate'].every((name) => document.getElementById('chart-' + name).dataset.points > 20)");
    browser.wait_for("document.querySelectorAll('#worker-rows tr[data-state=working]').length === 4");
    browser.wait_for("document.querySelectorAll('#digit-grid button').length === 100");
    browser.wait_for("document.querySelectorAll('#epoch-rows .mono').length > 0");
    browser.wait_for("document.querySelector('#confusion td') && document.querySelector('#figure-test').innerText.includes('%')");
    // Ink of several colours, not an empty picture.
    let colors = "(() => { const c = document.getElementById('chart-loss'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;\
                  const s = new Set(); for (let i = 0; i < d.length; i += 4) if (d[i + 3] > 200) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]); return s.size; })()";
    browser.wait_for(&format!("{colors} > 3"));

    send_signal(workers[2], Signal::KILL);
    browser.wait_for("document.querySelectorAll('#worker-rows tr[data-state=gone]').length === 1");
    browser.wait_for("[...document.querySelectorAll('#worker-rows tr[data-state=gone] .worker-state')].some((state) => state.innerText === 'gone')");

    // A one with the mouse; the answer follows the training until it is right.
    browser.run("document.getElementById('inside').scrollIntoView({ behavior: 'instant' });");
    // It begins with a test digit.
    browser.wait_for("document.getElementById('verdict').innerText.startsWith('Test digit 0: it reads a')");
    browser.drag("mouse", "#pad", &[(8, -90), (4, -40), (0, 10), (-4, 90)]);
    browser.wait_for("document.getElementById('verdict').dataset.predicted === '1'");
    // The pictures of all layers are there.
    browser.wait_for("['conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'dense1'].every((name) => document.getElementById('layer-' + name).getAttribute('aria-label').includes('answer strongly'))");
    browser.wait_for("document.getElementById('filters-sub').innerText.includes('changed by')");

    // A seven with the keyboard: a bar, and a stroke down to the left.
    browser.run("document.getElementById('pad').focus();");
    let mut keys = vec![DELETE];
    keys.extend([UP; 8]);
    keys.extend([LEFT; 6]);
    keys.push(" ");
    keys.extend([RIGHT; 12]);
    keys.extend([DOWN, DOWN, LEFT].repeat(8));
    browser.keys(&keys);
    browser.wait_for("document.getElementById('verdict').dataset.predicted === '7'");

    let console = browser.log("browser");
    assert!(console.is_empty(), "the console says: {console:?}");
    run.signal(Signal::TERM);
    browser.wait_for("document.getElementById('state').innerText.includes('SIGTERM')");
    let finished = run.finish();
    assert_eq!(finished.code(), Some(143), "{finished}");
    // What the page asked for as the server went is logged by the browser itself.
    let console = browser.log("browser");
    assert!(console.iter().all(|entry| entry["source"] == "network"), "the console says: {console:?}");
    let requests: Vec<String> = browser
        .log("performance")
        .iter()
        .filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).ok()?;
            let event = &message["message"];
            let asked = event["method"] == "Network.requestWillBeSent";
            asked.then(|| event["params"]["request"]["url"].as_str().unwrap().to_string())
        })
        .collect();
    assert!(requests.len() > 5, "{requests:?}");
    assert!(requests.iter().all(|request| request.starts_with(&url)), "{requests:?}");
}

/// A run of one step in `folder/run`, whose page stays; it is over.
fn one_step(folder: &Path, arguments: &[&str]) -> (Running, String) {
    let mut command = coordinator(folder);
    command.args(["--run-dir", "run", "--stay", "--max-steps", "1"]).args(arguments).args(SMALL);
    let mut run = start(&mut command);
    let url = url_of(&mut run);
    run.wait_for_line("the dashboard stays at http://");
    (run, url)
}

#[test]
fn a_page_bears_what_is_not_finite() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_run, url) = one_step(folder.path(), &["--learning-rate", "1e10"]);
    browser.open(&url);
    browser.wait_for("document.body.innerText.includes('ended: training diverged in step 1')");
    browser.wait_for("document.getElementById('chart-loss').dataset.points === '1'");
    let console = browser.log("browser");
    assert!(console.is_empty(), "the console says: {console:?}");
}

#[test]
fn what_lasts_and_the_inside_of_the_network_are_there_at_once() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args([
        "--run-dir",
        "run",
        "--dataset",
        "auto",
        "--examples",
        "500",
        "--max-steps",
        "1",
        "--stay",
    ]);
    let mut run = start(&mut command);
    let url = url_of(&mut run);
    run.wait_for_line("the dashboard stays at http://");
    browser.open(&url);
    browser.wait_for("document.getElementById('notices').innerText.includes('generated digits, not MNIST')");
    // Nobody has drawn, or come there.
    browser.wait_for("document.getElementById('verdict').innerText.startsWith('Test digit 0: it reads a')");
    browser.wait_for(
        "document.getElementById('layer-dense1').getAttribute('aria-label').includes('answer strongly')",
    );
    assert_eq!(browser.run("return window.scrollY;"), 0);
    browser.wait_for(
        "document.getElementById('figure-rate-sub').innerText.startsWith('examples/s, mean of the run')",
    );
    browser.wait_for("document.getElementById('split-of').innerText === 'mean of the run'");
    let lines = browser.run(
        "take({ progress: told.progress, notices: [{ sentence: 'steps are not recorded', over: false }] });
         take({ progress: told.progress, notices: [{ sentence: 'steps 2 to 9 have no record', over: true }] });
         return [...document.querySelectorAll('#notices p')].map((line) => [line.innerText, line.dataset.over]);",
    );
    assert_eq!(lines[1], json!(["Steps 2 to 9 have no record.", "true"]), "{lines}");
    assert!(lines[0][0].as_str().unwrap().contains("generated digits") && lines[2].is_null(), "{lines}");
    let console = browser.log("browser");
    assert!(console.is_empty(), "the console says: {console:?}");
}

#[test]
fn a_page_goes_on_when_points_become_fewer() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_run, url) = one_step(folder.path(), &[]);
    browser.open(&url);
    browser.wait_for("document.getElementById('figure-rate').innerText !== '–'");
    browser.wait_for("document.getElementById('figure-validation-sub').innerText.endsWith('after step 1')");
    assert_eq!(browser.run("return ticks(0, 1, 5, 1).at;"), json!([0, 1]), "a step stands at one place");
    // What a curve of 2048 steps does: its points become one of two each, under a cursor.
    browser.run(
        "window.points = (width, count) => take({ progress: told.progress, curve: { replace: true, width,
           points: Array.from({ length: count }, (_, n) => [(n + 1) * width, n % 2 ? 1 : null, 1, 1, 0.5, 100, n]) } });
         points(1, 2047); document.getElementById('chart-loss').focus();",
    );
    let reads = |step: &str| {
        browser.wait_for(&format!("document.getElementById('readout-loss').innerText.startsWith('{step},')"));
    };
    browser.keys(&[END]);
    reads("step 2,047");
    browser.run("points(2, 1023);");
    reads("step 2,046");
    browser.keys(&[LEFT]);
    reads("step 2,044");
    browser.run("points(512, 3);");
    browser.keys(&[RIGHT, "+", "-", LEFT]);
    reads("step 1,024");
    let console = browser.log("browser");
    assert!(console.is_empty(), "the console says: {console:?}");
}

#[test]
fn curves_are_read_and_zoomed_with_keys_buttons_mouse_and_finger() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_run, url) = one_step(folder.path(), &[]);
    browser.open(&url);
    browser.wait_for("document.getElementById('figure-validation-sub').innerText.endsWith('after step 1')");
    browser.run(
        "take({ progress: told.progress, curve: { replace: true, width: 1,
           points: Array.from({ length: 1000 }, (_, n) => [n + 1, 1, 1, 1, 0.5, 100, n]) } });
         document.getElementById('curves').scrollIntoView({ behavior: 'instant' });
         document.getElementById('chart-loss').focus();",
    );
    // What a screen reader is told of it.
    let now = |step: &str| {
        browser.wait_for(&format!(
            "document.getElementById('chart-loss').getAttribute('aria-valuenow') === '{step}'"
        ));
    };
    let told = "const loss = document.getElementById('chart-loss');
        return ['role', 'aria-valuemin', 'aria-valuemax', 'aria-valuetext'].map((name) => loss.getAttribute(name));";
    browser.keys(&[END]);
    now("1000");
    let text = "step 1,000, epoch 72, after 16:39 of training · batch 1.0000 · smoothed 1.0000 · validation ";
    let values = browser.run(told);
    assert!(values[3].as_str().unwrap().starts_with(text), "{values}");
    assert_eq!((&values[0], &values[1], &values[2]), (&"slider".into(), &"0".into(), &"1000".into()));

    let shown = || browser.run("return range().map(Math.round);");
    let disabled =
        || browser.run("return ['zoom-out', 'whole'].map((id) => document.getElementById(id).disabled);");
    let click = |id: &str| browser.run(&format!("document.getElementById('{id}').click();"));
    assert_eq!((shown(), disabled()), (json!([0, 1000]), json!([true, true])));
    click("zoom-in");
    assert_eq!((shown(), disabled()), (json!([500, 1000]), json!([false, false])));
    click("zoom-in");
    assert_eq!(shown(), json!([750, 1000]));
    click("zoom-out");
    assert_eq!(shown(), json!([500, 1000]));
    // A finger takes hold of it, and beyond the ends there is nothing.
    browser.drag("touch", "#chart-loss", &[(-100, 0), (0, 0), (100, 0)]);
    let moved = shown();
    let from = moved[0].as_u64().unwrap();
    assert!((1..500).contains(&from) && moved[1] == from + 500, "{moved}");
    browser.drag("touch", "#chart-loss", &[(150, 0), (0, 0), (-150, 0)]);
    assert_eq!(shown(), json!([500, 1000]));
    click("whole");
    assert_eq!((shown(), disabled()), (json!([0, 1000]), json!([true, true])));
    // Not zoomed, it is read.
    browser.drag("touch", "#chart-loss", &[(-100, 0), (0, 0)]);
    assert_eq!(shown(), json!([0, 1000]));
    browser.wait_for("document.getElementById('readout-loss').innerText.startsWith('step 4')");
    browser.drag("mouse", "#chart-loss", &[(-100, 0), (100, 0)]);
    let chosen = shown();
    assert!(chosen[0].as_u64().unwrap() > 0 && chosen[1].as_u64().unwrap() < 1000, "{chosen}");
}

#[test]
fn the_keyboard_is_left_what_it_has() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_run, url) = one_step(folder.path(), &[]);
    browser.open(&url);
    browser.wait_for("document.querySelectorAll('#worst button').length > 2");
    browser.wait_for("document.querySelectorAll('#digit-grid button').length === 100");
    // Control and plus enlarges the page.
    let left = "return ['#chart-loss', '#pad', '#digit-grid button'].every((selector) =>
          ['+', '-', '0', 'ArrowLeft', 'ArrowRight', 'End', ' ', 'Delete'].every((key) =>
          ['ctrlKey', 'metaKey', 'altKey'].every((held) => {
            const element = document.querySelector(selector);
            element.focus();
            return element.dispatchEvent(new KeyboardEvent('keydown', { key, [held]: true, bubbles: true, cancelable: true }));
          })));";
    assert_eq!(browser.run(left), true);
    // A prediction more does not take the focus away.
    let focus = "const before = told.predictions;
        const again = (worst) => { take({ progress: told.progress, predictions: { ...before, worst } }); return Number(document.activeElement.dataset.index); };
        document.querySelector('#worst button:nth-child(2)').focus();
        return [again(before.worst.slice(1)) === before.worst[2][0], again(before.worst.slice(0, 1)) === before.worst[0][0]];";
    assert_eq!(browser.run(focus), json!([true, true]));
}

#[test]
fn an_answer_is_shown_for_what_was_asked() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (_run, url) = one_step(folder.path(), &[]);
    browser.open(&url);
    browser.wait_for("images && document.querySelectorAll('#digit-grid button').length === 100");
    browser.run(
        "window.shown = [];
         new MutationObserver(() => { if (look) shown.push(look.values.subarray(0, 784).every((value, at) => value === imageOf(2)[at])); })
           .observe(document.getElementById('verdict'), { childList: true });
         chooseDigit(1); chooseDigit(2);",
    );
    browser.wait_for("!asking && shown.length > 0");
    browser
        .wait_for("document.getElementById('announcement').innerText.startsWith('Test digit 2: it reads a')");
    assert_eq!(browser.run("return shown;"), json!([true]));
    browser.wait_for("document.getElementById('inside-step').innerText === 'weights after step 1'");

    // Nothing of it is left, and nothing comes after.
    browser.run("chooseDigit(1); pen.down = true; document.getElementById('clear').click();");
    browser.wait_for("!asking");
    let rest = "return [document.getElementById('verdict').innerText, document.getElementById('inside-step').innerText, pen.down,
        document.getElementById('layer-conv1').getAttribute('aria-label'),
        [...document.querySelectorAll('#layers canvas')].some((canvas) => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean))];";
    assert_eq!(
        browser.run(rest),
        json!(["Nothing is drawn yet.", "", false, "Convolution 1: no picture yet", false])
    );
}

#[test]
fn a_page_learns_that_its_server_is_gone_and_begins_anew_with_another_run() {
    let Some(browser) = browser() else { return };
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (run, url) = one_step(first.path(), &[]);
    browser.open(&url);
    browser.wait_for("document.getElementById('about').innerText.startsWith('Run ')");
    browser.run("window.before = true;");
    run.signal(Signal::INT);
    run.finish().done();
    browser.wait_for("document.getElementById('left').innerText.startsWith('the server has ended')");
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let (_run, again) = one_step(second.path(), &["--dashboard", address]);
    assert_eq!(again, url);
    let header = &json_lines(&second.path().join("run/metrics.jsonl"))[0];
    let about = format!(
        "document.getElementById('about').innerText.startsWith('Run {}')",
        header["run_id"].as_str().unwrap()
    );
    browser.wait_for(&format!("window.before === undefined && {about}"));
}

#[test]
fn the_page_of_a_killed_run_does_not_ask_for_ever() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--epochs", "100000", "--checkpoint-every", "0"]).args(&SMALL[..6]);
    let mut run = start(&mut command);
    run.wait_for_line("epoch      3/100000");
    let directory = folder.path().join("run");
    kill_with_checkpoints(run, &directory, 3);
    // The filters are of a checkpoint that the records have left behind: up to the newest one all is recorded, and of
    // three not all are of one step.
    for later in &manifests(&directory)[1..] {
        std::fs::remove_file(later).unwrap();
    }
    let (_show, address) = show(folder.path(), &[]);
    browser.open(&address.url());
    browser.run("document.getElementById('inside').scrollIntoView({ behavior: 'instant' });");
    browser.wait_for("document.getElementById('filters-sub').innerText.includes('changed by')");
    browser.wait_for(
        "document.getElementById('verdict').innerText.startsWith('Test digit 0: it reads a') && !asking",
    );
    let asked = "let asked = 0; const real = window.fetch;
        window.fetch = (...of) => { asked += 1; return real(...of); };
        for (let second = 0; second < 5; second++) follow();
        window.fetch = real;
        return [asked, filters.step < told.progress.step];";
    assert_eq!(browser.run(asked), json!([0, true]));
}
