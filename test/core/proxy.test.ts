/** Which proxy leads to HQ, by the settings and the environment. */
import assert from 'node:assert/strict';
import { connectRequest, parseProxy, proxyAddress, proxyFor, targetOf } from '../../src/core/proxy.ts';

const HQ = 'https://hq.example.com:3001';

describe('the proxy towards HQ', () => {
  const used = (env: Record<string, string>, url = HQ, explicit?: string): string | undefined =>
    proxyFor(targetOf(url), { explicit, env })?.host;

  it('is that of POSSYNC_PROXY, whatever else is set, for HQ on this machine as well', () => {
    const env = { HTTPS_PROXY: 'http://other:1', NO_PROXY: '*' };
    assert.equal(used(env, HQ, 'proxy:8080'), 'proxy:8080');
    assert.equal(used(env, 'http://127.0.0.1:3001', 'http://u:p@proxy:8080/'), 'proxy:8080');
  });

  it('else that of the environment for TLS or without, small letters first', () => {
    assert.equal(used({}), undefined);
    assert.equal(used({ HTTPS_PROXY: 'http://a:1', https_proxy: 'http://b:2' }), 'b:2');
    assert.equal(used({ HTTPS_PROXY: '', ALL_PROXY: 'a:1' }), 'a:1');
    assert.equal(used({ HTTP_PROXY: 'a:1' }), undefined);
    assert.equal(used({ HTTP_PROXY: 'a:1', HTTPS_PROXY: 'b:2' }, 'http://hq.example.com:3001'), 'a:1');
  });

  it('is none for HQ on this machine, and none that is no HTTP proxy', () => {
    const env = { HTTPS_PROXY: 'http://a:1', HTTP_PROXY: 'http://a:1' };
    for (const url of ['http://127.0.0.1:3001', 'https://localhost:3001', 'http://[::1]:3001'])
      assert.equal(used(env, url), undefined, url);
    assert.equal(used({ HTTPS_PROXY: 'socks5://a:1' }), undefined);
    assert.equal(used({ HTTPS_PROXY: 'http://' }), undefined);
  });

  const rules: readonly (readonly [noProxy: string, url: string, exempt: boolean])[] = [
    ['hq.example.com', HQ, true],
    ['HQ.Example.COM', HQ, true],
    ['example.com', HQ, true],
    ['.example.com', HQ, true],
    ['*.example.com', HQ, true],
    ['*', HQ, true],
    ['other.net, example.com', HQ, true],
    ['other.net example.com', HQ, true],
    ['hq.example.com:3001', HQ, true],
    ['hq.example.com:443', HQ, false],
    ['ample.com', HQ, false],
    ['hq.example.com.evil.net', HQ, false],
    ['example', HQ, false],
    ['', HQ, false],
    [',,', HQ, false],
    ['10.0.0.0/8', 'https://10.1.2.3:3001', true],
    ['10.1.2.3', 'https://10.1.2.3:3001', true],
    ['10.1.2.3:3001', 'https://10.1.2.3:3001', true],
    ['10.1.2.3:443', 'https://10.1.2.3:3001', false],
    ['10.1.2.0/24', 'https://10.1.3.3:3001', false],
    ['10.0.0.0/99', 'https://10.1.2.3:3001', false],
    ['2', 'https://10.1.2.3:3001', false],
    ['.3', 'https://10.1.2.3:3001', false],
    ['[2001:db8::1]', 'https://[2001:db8::1]:3001', true],
    ['2001:db8::/32', 'https://[2001:db8::1]:3001', true],
    ['2001:db9::/32', 'https://[2001:db8::1]:3001', false],
  ];
  for (const [noProxy, url, exempt] of rules)
    it(`NO_PROXY="${noProxy}" ${exempt ? 'exempts' : 'does not exempt'} ${url}`, () => {
      for (const name of ['NO_PROXY', 'no_proxy'])
        assert.equal(used({ HTTPS_PROXY: 'http://a:1', [name]: noProxy }, url), exempt ? undefined : 'a:1');
    });

  it('is asked by name and port, with its user and password as they were meant', () => {
    const ask = (proxy: string, url = HQ) => {
      const parsed = parseProxy(proxy);
      assert.ok(parsed !== undefined);
      const { path, headers } = connectRequest(parsed, targetOf(url));
      const [, login = ''] = /^Basic (.*)$/.exec(headers['proxy-authorization'] ?? '') ?? [];
      assert.equal(headers.host, path);
      return { path, login: Buffer.from(login, 'base64').toString(), ...proxyAddress(parsed) };
    };
    assert.deepEqual(ask('http://me:p%40ss%3Aw@proxy:8080'), {
      path: 'hq.example.com:3001',
      login: 'me:p@ss:w',
      host: 'proxy',
      port: 8080,
    });
    assert.equal(ask('me:100%@proxy').login, 'me:100%');
    assert.deepEqual([ask('proxy').login, ask('proxy').port, ask('http://proxy:80').port], ['', 80, 80]);
    assert.equal(ask('proxy:1', 'https://[2001:db8::1]:3001').path, '[2001:db8::1]:3001');
  });
});
