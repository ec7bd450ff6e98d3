/** b.7 The proxy, if one is configured: does it let us through to the port of HQ. */
import { codeOf } from '../../core/classify.ts';
import { parseProxy, proxyRefusal } from '../../core/proxy.ts';
import { fail, pass, type Check, type Finding, type Probe } from '../check.ts';
import { ProxyRefusal, StepTimeout, targetOf, tunnel } from '../dial.ts';

export const PROXY: readonly Check[] = [
  {
    id: 'proxy.connect',
    layer: 'proxy',
    title: 'the proxy lets possync through',
    dependsOn: ['cfg.hq_url', 'tcp.connect'],
    limitMs: 9_000,
    run: checkProxy,
  },
];

async function checkProxy(probe: Probe): Promise<Finding> {
  const { proxy: text } = probe.subject;
  if (text === undefined) return pass('no proxy is configured');
  const target = targetOf(probe);
  const wanted = `${target.host}:${target.port}`;
  const proxy = parseProxy(text);
  if (proxy === undefined) return fail('PS-PROXY-DOWN', 'POSSYNC_PROXY is no address of an HTTP proxy');
  const detail = { target: proxy.host };
  try {
    (await tunnel(probe, proxy, target)).destroy();
    return pass(`through ${proxy.host}`);
  } catch (error) {
    if (error instanceof ProxyRefusal) return refusal(error.status, wanted, detail);
    if (error instanceof StepTimeout)
      return fail('PS-PROXY-DOWN', `the proxy ${proxy.host} does not answer`, detail);
    return fail(
      'PS-PROXY-DOWN',
      `the proxy ${proxy.host} cannot be reached (${codeOf(error) ?? 'no HTTP'})`,
      detail,
    );
  }
}

function refusal(status: number, wanted: string, { target }: { target: string }): Finding {
  const [code, message] = proxyRefusal(status, wanted);
  return fail(code, message, { target, evidence: { status } });
}
