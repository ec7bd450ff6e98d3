/** The process around a run: streams, signals, exit. The only place that calls process.exit. */
import { EXIT } from '../core/errors.ts';
import { runCli } from './run.ts';

/** After Ctrl-C a command has this long to put things in order. */
const INTERRUPT_MS = 1_500;

function quitOnBrokenPipe(error: NodeJS.ErrnoException): void {
  // `possync queue ls | head`: the reader has seen enough. Any other failure of stdout cannot be told anywhere.
  process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.unavailable);
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin) {
    const part = chunk as Buffer;
    bytes += part.length;
    // A token is a few hundred bytes; a wrong pipe must not fill the memory.
    if (bytes > 64 * 1024) break;
    chunks.push(part);
  }
  return Buffer.concat(chunks).toString('utf8');
}

async function main(): Promise<void> {
  process.stdout.on('error', quitOnBrokenPipe);
  process.stderr.on('error', () => undefined);
  const interrupt = new AbortController();
  let interrupted = false;
  const onInterrupt = (): void => {
    if (interrupted) process.exit(EXIT.interrupted);
    interrupted = true;
    interrupt.abort();
    setTimeout(() => {
      process.stderr.write('interrupted\n');
      process.exit(EXIT.interrupted);
    }, INTERRUPT_MS).unref();
  };
  process.on('SIGINT', onInterrupt);
  const code = await runCli({
    argv: process.argv.slice(2),
    env: process.env,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: interrupt.signal,
    root: process.getuid?.() === 0,
    readStdin,
    serviceStarts: () => {
      process.off('SIGINT', onInterrupt);
    },
  });
  // A pipe takes writes later than they are made: leave only when it has them.
  await Promise.all([drained(process.stdout), drained(process.stderr)]);
  process.exit(code);
}

function drained(stream: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => {
    stream.write('', () => {
      resolve();
    });
  });
}

await main();
