/** The program without a process: the same run as bin/possync.js, with streams that the test holds. */
export interface CliOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  /** stdout and stderr are terminals of this width; 0 as on a serial console. Absent: pipes. */
  readonly columns?: number;
}

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export async function possync(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  // mocha loads a test by require, commands are loaded by import: two module graphs, whose classes differ. From here
  // on all of it is the second one.
  const { runCli } = await import('../../src/cli/run.ts');
  const out: string[] = [];
  const err: string[] = [];
  const stream = (into: string[]) => ({
    write: (text: string) => {
      into.push(text);
      return true;
    },
    ...(options.columns === undefined ? {} : { isTTY: true, columns: options.columns }),
  });
  const code = await runCli({
    argv: args,
    env: { ...options.env },
    stdout: stream(out),
    stderr: stream(err),
    signal: new AbortController().signal,
    root: true,
    readStdin: () => Promise.resolve(options.stdin ?? ''),
    serviceStarts: () => undefined,
  });
  return { code, stdout: out.join(''), stderr: err.join('') };
}
