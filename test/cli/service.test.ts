/** The systemd units: valid to the last key, well hardened, shown before they are written, and removed again. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { possync } from '../support/cli.ts';
import { POSSYNC } from '../support/process.ts';
import { skip } from '../support/skip.ts';

const UNITS = 'etc/systemd/system';
/** The scale of systemd-analyze: below 2 is "OK", a unit without hardening has 8.6. */
const EXPOSURE_MAX = 2;

function analyze(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('possync service', function () {
  this.timeout(60_000);
  let root: string;
  const script = process.argv[1];
  before(() => {
    process.argv[1] = POSSYNC; // the units start the program that runs, and that is mocha here
  });
  after(() => {
    process.argv[1] = script ?? '';
  });
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'possync-service-'));
  });
  afterEach(async () => {
    await rm(root, { recursive: true });
  });

  it('shows every step with --dry-run and takes none', async () => {
    const { code, stdout } = await possync(['service', 'install', 'store', '--dry-run', '--json']);
    assert.equal(code, 0);
    const { result, steps } = JSON.parse(stdout) as {
      result: string;
      steps: { do: string; path?: string }[];
    };
    assert.equal(result, 'dry_run');
    assert.deepEqual(
      steps.filter((step) => step.do === 'write').map(({ path }) => path),
      ['possync-store.service', 'possync-diagnose.service', 'possync-diagnose.timer'].map(
        (name) => `/${UNITS}/${name}`,
      ),
    );
    const below = await possync(['service', 'install', 'hq', '--dry-run', '--root', root]);
    assert.match(below.stdout, /ExecStart=\S*node \S*possync\.js hq serve/);
    assert.deepEqual(await readdir(root), []);
  });

  it('writes the units of a side, and takes away exactly those', async () => {
    for (const side of ['hq', 'store'] as const)
      assert.equal((await possync(['service', 'install', side, '--root', root])).code, 0);
    await writeFile(join(root, UNITS, 'other.service'), '');
    assert.equal((await readdir(join(root, UNITS))).length, 5);
    assert.equal((await possync(['service', 'uninstall', 'store', '--root', root])).code, 0);
    assert.deepEqual((await readdir(join(root, UNITS))).sort(), ['other.service', 'possync-hq.service']);
  });

  it('refuses a side that does not exist and a user that could be a line of a unit', async () => {
    assert.equal((await possync(['service', 'install', 'till', '--root', root])).code, 64);
    assert.equal(
      (await possync(['service', 'install', 'hq', '--root', root, '--user', 'a\nExecStart=x'])).code,
      64,
    );
  });

  for (const side of ['hq', 'store'] as const) {
    it(`passes systemd-analyze without a word, and is hardened: ${side}`, async function () {
      if (analyze('--version').status !== 0) skip(this, 'systemd-analyze is not here');
      await possync(['service', 'install', side, '--root', root]);
      const folder = join(root, UNITS);
      const files = (await readdir(folder)).map((name) => join(folder, name));
      // An unknown key is told on stderr, with exit 0.
      const found = analyze('verify', '--man=no', ...files);
      assert.deepEqual([found.status, found.stderr], [0, '']);
      const server = join(folder, `possync-${side}.service`);
      const judged = analyze('security', '--offline=true', server);
      const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(judged.stdout)?.[1]);
      assert.ok(exposure < EXPOSURE_MAX, judged.stdout.slice(-300));
    });
  }

  it('negative control: a misspelt key is found', async function () {
    if (analyze('--version').status !== 0) skip(this, 'systemd-analyze is not here');
    const path = join(root, 'possync-wrong.service');
    await writeFile(path, '[Service]\nExecStart=/bin/true\nWatchdogSecs=60\n');
    const { status, stderr } = analyze('verify', '--man=no', path);
    assert.equal(status, 0);
    assert.match(stderr, /WatchdogSecs/);
  });
});
