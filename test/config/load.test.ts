/** Settings: who wins, what is refused, and that every fault is told at once. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { normalizeHqUrl, parseDuration } from '../../src/config/codecs.ts';
import { listenHostOf, loadConfig, stripComments, type ConfigInput } from '../../src/config/load.ts';
import { PossyncError } from '../../src/core/errors.ts';

describe('settings', () => {
  let dir: string;
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'possync-config-'));
  });
  after(() => {
    rmSync(dir, { recursive: true });
  });

  const load = (input: Partial<ConfigInput>) => loadConfig({ flags: {}, env: {}, root: true, ...input });
  const file = (name: string, text: string): string => {
    const path = join(dir, name);
    writeFileSync(path, text);
    return path;
  };
  const faultsOf = (input: Partial<ConfigInput>): string[] => {
    try {
      load(input);
    } catch (error) {
      assert.ok(error instanceof PossyncError);
      assert.equal(error.code, 'PS-CFG-INVALID');
      return (error.why ?? '').split('\n');
    }
    return assert.fail('no fault was found');
  };

  it('have the documented defaults', () => {
    const { config } = load({});
    assert.equal(config.listenPort, 3001);
    assert.equal(config.pushIntervalMs, 60_000);
    assert.equal(config.stateDir, './state');
    assert.equal(config.logDir, 'logs');
    assert.deepEqual(config.statusListen, { host: '127.0.0.1', port: 3002 });
    assert.equal(listenHostOf(config), '127.0.0.1');
    assert.equal(listenHostOf({ ...config, tlsCertFile: 'c' }), '0.0.0.0');
  });

  it('come from flag, environment, file and default, in this order', () => {
    const configFile = file('order.json', '{ "listen_port": 1003, "log_dir": "f", "log_level": "debug" }');
    const { config, sources } = load({
      flags: { listenPort: '1001' },
      env: { SYNC_LISTEN_PORT: '1002', LOG_DIR: 'e' },
      configFile,
    });
    assert.deepEqual([config.listenPort, config.logDir, config.logLevel], [1001, 'e', 'debug']);
    assert.deepEqual(
      [sources.listenPort, sources.logDir, sources.logLevel, sources.stateDir],
      ['flag', 'environment', 'file', 'default'],
    );
  });

  it("take systemd's directories before their own, and an explicit one before both", () => {
    const env = { STATE_DIRECTORY: '/var/lib/possync', LOGS_DIRECTORY: '/var/log/possync' };
    assert.equal(load({ env }).config.stateDir, '/var/lib/possync');
    assert.equal(load({ env }).config.logDir, '/var/log/possync');
    assert.equal(load({ env: { ...env, POSSYNC_STATE_DIR: '/x' } }).config.stateDir, '/x');
  });

  it('read a file with comments, and keep what looks like one inside a text', () => {
    const configFile = file(
      'comments.json',
      '{ // why\n "hq_url": "https://hq.example.com:3001", /* block\n over lines */ "log_dir": "a//b" }',
    );
    const { config } = load({ configFile });
    assert.equal(config.hqUrl, 'https://hq.example.com:3001');
    assert.equal(config.logDir, 'a//b');
    assert.equal(stripComments('"a\\"//b" //c').trim(), '"a\\"//b"');
  });

  it('tell every fault at once, by the name under which it was given', () => {
    const configFile = file('faults.json', '{ "listen_prot": 1, "push_interval": {}, "log_level": "loud" }');
    const faults = faultsOf({
      flags: { listenPort: '70000' },
      env: { SYNC_PUSH_INTERVAL: 'soon' },
      configFile,
    });
    assert.equal(faults.length, 5);
    assert.match(faults.join('\n'), /listen_prot \(file\): unknown setting\. Did you mean listen_port\?/);
    assert.match(faults.join('\n'), /push_interval \(file\): must be text/);
    assert.match(faults.join('\n'), /log_level \(file\): 'loud' is not one of error, warn, info, debug/);
    assert.match(faults.join('\n'), /--port: '70000' is not a whole number from 0 to 65535/);
    assert.match(faults.join('\n'), /SYNC_PUSH_INTERVAL: 'soon' is not a duration/);
  });

  it('never repeat a secret in a fault', () => {
    const configFile = file('secret.json', '{ "database_url": "" }');
    assert.match(faultsOf({ configFile })[0] ?? '', /^database_url \(file\): its value is not some text$/);
    for (const faults of [
      faultsOf({ configFile: file('broken.json', '{ "database_url": "Zx9"} Zx9Canary') }),
      faultsOf({ env: { SYNC_HQ_URL: 'gopher://u:Zx9Canary@hq' } }),
    ])
      assert.doesNotMatch(faults.join(), /Zx9/);
  });

  it('refuse a named file that is not there with exit 66, and do without one that nobody named', () => {
    assert.throws(
      () => load({ configFile: join(dir, 'none.json') }),
      (error) => error instanceof PossyncError && error.exit === 66,
    );
    assert.equal(load({}).file, undefined);
  });

  it('warn of a mistyped variable, and say why there is no SYNC_TOKEN', () => {
    const { warnings } = load({
      env: { SYNC_LISTENPORT: '1', POSSYNC_STATEDIR: 'x', SYNC_TOKEN: 's', PATH: '' },
    });
    assert.deepEqual(warnings, [
      'Unknown SYNC_LISTENPORT. Did you mean SYNC_LISTEN_PORT?',
      'Unknown POSSYNC_STATEDIR. Did you mean POSSYNC_STATE_DIR?',
      'SYNC_TOKEN is not read: a secret in the environment leaks. Use SYNC_TOKEN_FILE.',
    ]);
  });

  it('take an empty variable for one that is not set', () => {
    assert.equal(load({ env: { SYNC_LISTEN_PORT: '' } }).config.listenPort, 3001);
  });

  for (const [text, ms] of [
    ['90', 90_000],
    ['90s', 90_000],
    ['10m', 600_000],
    ['24h', 86_400_000],
    ['7d', 604_800_000],
    ['250ms', 250],
    ['1.5s', 1_500],
    ['', undefined],
    ['s', undefined],
    ['-1', undefined],
    ['1w', undefined],
    ['1 h', undefined],
  ] as const)
    it(`reads the duration '${text}' as ${String(ms)} ms`, () => {
      assert.equal(parseDuration(text), ms);
    });

  for (const [text, url] of [
    ['https://hq.example.com', 'https://hq.example.com:3001'],
    ['wss://hq.example.com:443/', 'https://hq.example.com:443'],
    ['ws://127.0.0.1:3001', 'http://127.0.0.1:3001'],
    ['http://[::1]:80', 'http://[::1]:80'],
    ['HTTPS://HQ.example.com:3001', 'https://hq.example.com:3001'],
    ['ftp://hq', undefined],
    ['https://user:pw@hq', undefined],
    ['https://hq/path', undefined],
    ['hq.example.com', undefined],
  ] as const)
    it(`reads the address '${text}' as ${String(url)}`, () => {
      assert.equal(normalizeHqUrl(text), url);
    });
});
