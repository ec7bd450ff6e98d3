/** The rules of the house that no compiler holds: who imports whom, who may touch time and terminal, head comments. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, posix, relative, resolve } from 'node:path';
import ts from 'typescript';
import { migrationsOf } from '../src/db/migrations.ts';

const ROOT = resolve(import.meta.dirname, '..');

/** Imports point from the right to the left; rooms in one group do not know each other. */
const ORDER: readonly (readonly string[])[] = [
  ['protocol'],
  ['core'],
  ['config', 'db'],
  ['hq', 'store', 'diagnose'],
  ['demo'],
  ['cli'],
];

const MAX_LINES = 400;
const LONG_FILES: Readonly<Record<string, string>> = {
  'src/protocol/entities.ts': 'one table, one row per data type: its order is read from top to bottom',
  'src/cli/commands.ts': 'one table, one row per command',
};

/** Only what shows things to people may know how they look. */
const TERMINAL_PACKAGES = new Set(['chalk', 'ora', 'cli-table3']);

/** Everything that takes its time from elsewhere than the clock it is given, and why that is right. */
const TIME_EXCEPTIONS: Readonly<Record<string, string>> = {
  'src/core/clock.ts': 'it is the clock',
  'src/core/ids.ts': 'the time in an id is a hint for the index, never an order',
  'src/core/log-output.ts': 'a log line has the time at which it was written, by the clock of the machine',
  'src/cli/main.ts': 'the last resort of the process itself, after everything with a clock had its chance',
  'src/store/link/http-exchange.ts': 'a limit on a socket, like the idle limit that Node itself keeps',
  'src/demo/till.ts': 'a till is another program, with a clock of its own',
};

interface SourceFile {
  /** From the root, with slashes: `src/db/pool.ts`. */
  readonly path: string;
  /** `db`; migrations count as `db`, which runs them. */
  readonly room: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

const sources: readonly SourceFile[] = ['src', 'migrations'].flatMap(readSources);

function readSources(folder: string): SourceFile[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => {
      const file = join(entry.parentPath, entry.name);
      const path = relative(ROOT, file).replaceAll('\\', '/');
      const text = readFileSync(file, 'utf8');
      const room = folder === 'src' ? (path.split('/')[1] ?? '') : 'db';
      return { path, room, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true) };
    });
}

/** What a file imports, dynamic imports and types included. */
function importsOf({ text }: SourceFile): string[] {
  return ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName);
}

function roomOf(path: string): string | undefined {
  const [folder, room] = path.split('/');
  if (folder === 'migrations') return 'db';
  return folder === 'src' ? room : undefined;
}

function mayImport(from: string, to: string): boolean {
  if (from === to) return true;
  const level = (room: string): number => ORDER.findIndex((group) => group.includes(room));
  return level(to) < level(from);
}

/** Every use of the machine's clock or timers: `setTimeout(…)`, `Date.now()`, `new Date()`, node:timers. */
function usesOfTime(file: SourceFile): string[] {
  const found: string[] = [];
  const note = (node: ts.Node): void => {
    const { line } = file.tree.getLineAndCharacterOfPosition(node.getStart());
    found.push(`${file.path}:${line + 1} ${node.getText().split('\n', 1)[0] ?? ''}`);
  };
  const visit = (node: ts.Node): void => {
    if (
      ts.isCallExpression(node) &&
      /^(globalThis\.)?set(Timeout|Interval)$|^Date\.now$/.test(node.expression.getText())
    )
      note(node);
    if (
      ts.isPropertyAccessExpression(node) &&
      node.getText() === 'Date.now' &&
      !ts.isCallExpression(node.parent)
    )
      note(node);
    if (
      ts.isNewExpression(node) &&
      node.expression.getText() === 'Date' &&
      (node.arguments ?? []).length === 0
    )
      note(node);
    if (ts.isImportDeclaration(node) && node.moduleSpecifier.getText().includes('timers')) note(node);
    ts.forEachChild(node, visit);
  };
  visit(file.tree);
  return found;
}

describe('architecture', () => {
  it('knows every room', () => {
    const rooms = new Set(sources.map(({ room }) => room));
    const unknown = [...rooms].filter((room) => !ORDER.flat().includes(room));
    assert.deepEqual(unknown, [], 'add the room to ORDER, where it belongs');
  });

  it('has imports that point one way only', () => {
    const wrong = sources.flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith('.'))
        .flatMap((name) => {
          const target = posix.join(dirname(file.path), name);
          const room = roomOf(target);
          const allowed = room === undefined || mayImport(file.room, room);
          return allowed ? [] : [`${file.path} must not import ${target}`];
        }),
    );
    assert.deepEqual(wrong, []);
  });

  it('reaches out of src only for migrations', () => {
    const wrong = sources.flatMap((file) =>
      importsOf(file)
        .filter((name) => name.startsWith('.'))
        .map((name) => posix.join(dirname(file.path), name))
        .filter((target) => roomOf(target) === undefined)
        .map((target) => `${file.path} must not import ${target}`),
    );
    assert.deepEqual(wrong, []);
  });

  it('colours, draws tables and spins in cli/render only', () => {
    const wrong = sources.flatMap((file) =>
      file.path.startsWith('src/cli/render/')
        ? []
        : importsOf(file)
            .filter((name) => TERMINAL_PACKAGES.has(name))
            .map((name) => `${file.path} must not import ${name}`),
    );
    assert.deepEqual(wrong, []);
  });

  it('takes time from the clock it is given', () => {
    const wrong = sources.filter(({ path }) => !(path in TIME_EXCEPTIONS)).flatMap(usesOfTime);
    assert.deepEqual(wrong, [], 'use the Clock, or add the file to TIME_EXCEPTIONS with a reason');
  });

  it('has no exception that nobody needs', () => {
    const needed = new Set(sources.filter((file) => usesOfTime(file).length > 0).map(({ path }) => path));
    assert.deepEqual(
      Object.keys(TIME_EXCEPTIONS).filter((path) => !needed.has(path)),
      [],
    );
  });

  it('says at the head of every file what it is for', () => {
    const silent = sources.filter(({ text }) => !/^\/(\*\*|\/)/.test(text)).map(({ path }) => path);
    assert.deepEqual(silent, []);
  });

  it(`has no file longer than ${MAX_LINES} lines`, () => {
    const long = sources
      .map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 }))
      .filter(({ path, lines }) => lines > MAX_LINES && !(path in LONG_FILES));
    assert.deepEqual(long, []);
  });

  for (const role of ['hq', 'store'] as const) {
    it(`lists exactly the migrations that lie in migrations/${role}`, () => {
      const files = sources
        .filter(({ path }) => dirname(path) === `migrations/${role}` && basename(path) !== 'index.ts')
        .map(({ path }) => basename(path, '.ts'))
        .filter((name) => /^\d{4}_/.test(name));
      assert.deepEqual(
        migrationsOf(role).map(({ name }) => name),
        files.sort(),
      );
    });
  }
});
