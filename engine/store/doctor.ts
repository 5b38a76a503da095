/**
 * Looks after a data directory that no engine has open: says what is in it and what of it is damaged, and saves what is whole into a
 * new one. Every batch is checked; the records of every whole group are followed, but no job is made of them.
 */
import { existsSync, readdirSync } from 'node:fs';
import { checkObject, checkOptionNames, refuse } from '../../client/checks.js';
import { StoreError } from '../../client/errors.js';
import { openDataDir } from './directory.js';
import { BATCH_BYTES_MAX, cutGroup } from './format.js';
import { GroupAssembler, type GroupSink } from './groups.js';
import { LOG_PART } from './log-host.js';
import type { StoreName } from './log-options.js';
import { findLog, type LogReader, openReader } from './log-reader.js';
import { openStore } from './named-store.js';
import { Survey } from './survey.js';

export interface DoctorOptions {
  /** The `dataDir` of an engine that is closed. */
  readonly dataDir: string;
  /** A directory that isn't there, or is empty: every whole group is copied into it. */
  readonly salvageTo?: string;
}

export interface DoctorReport {
  /** Whether an engine can open it. */
  readonly ok: boolean;
  readonly store: StoreName;
  /** Batches that are there, whole groups among them, and the bytes of these batches. */
  readonly batches: number;
  readonly groups: number;
  readonly bytes: number;
  /** By queue and state; `remembered`: only the id; `lingering` and `gone`: only for those that still read the result. */
  readonly jobs: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** What can't be right, by position in the log; 0 for the log as a whole. Empty when all is well. */
  readonly damaged: readonly { readonly position: number; readonly what: string }[];
  /** Groups that a crash left unfinished. Nobody was told of them, so nothing is lost with them. */
  readonly unfinished: number;
  /** Jobs of which only changes are left: what they were stood in what is damaged. */
  readonly lost: number;
  /** With `salvageTo`: groups and batches written there. */
  readonly salvaged?: { readonly groups: number; readonly batches: number };
}

/**
 * Checks a data directory, and with `salvageTo` copies what is whole of it. Nothing in `dataDir` is changed. While it runs no engine
 * can open the directory.
 *
 * What stood in a damaged batch is lost, with the rest of its group: jobs admitted in it are gone, and what happened to others in it is
 * forgotten, so that a job which had completed may be waiting again, and run once more. A queue whose name is lost is called
 * `lost-queue-` and its number.
 *
 * @throws DataDirLockedError while an engine has the directory open; ValidationError when `salvageTo` isn't empty; StoreError when there
 *   is no log, when the store itself can't open it, or when a part to be salvaged was written by a newer flashQ.
 *
 * @example
 * const { ok, damaged, jobs } = await doctor({ dataDir: './queue-data' });
 * if (!ok) {
 *   console.error(damaged);
 *   await doctor({ dataDir: './queue-data', salvageTo: './queue-data-salvaged' });
 * }
 */
export async function doctor(options: DoctorOptions): Promise<DoctorReport> {
  const { dataDir, salvageTo } = checked(options);
  findLog(dataDir); // before a lock file is made where none belongs
  const directory = await openDataDir(dataDir);
  try {
    const reader = await openReader(directory.path);
    try {
      const survey = surveyOf(reader);
      if (salvageTo === undefined) return reportOf(reader, survey);
      if (survey.hasNewer) throw newerError(reader, survey);
      return { ...reportOf(reader, survey), salvaged: await salvage(reader, survey, salvageTo) };
    } finally {
      await reader.close();
    }
  } finally {
    directory.release();
  }
}

function checked(options: DoctorOptions): DoctorOptions {
  checkOptionNames(checkObject(options, 'doctor options'), 'doctor options', { known: ['dataDir', 'salvageTo'] });
  const { dataDir, salvageTo } = options;
  if (typeof dataDir !== 'string' || dataDir === '') refuse('dataDir', 'be a path', dataDir);
  if (salvageTo === undefined) return { dataDir };
  if (typeof salvageTo !== 'string' || salvageTo === '') refuse('salvageTo', 'be a path', salvageTo);
  if (existsSync(salvageTo) && readdirSync(salvageTo).length !== 0)
    refuse('salvageTo', 'be a directory that is empty, or not there', salvageTo);
  return { dataDir, salvageTo };
}

/** Gives every batch, and what is missing, to the sink. */
function readAll(reader: LogReader, sink: GroupSink): void {
  const groups = new GroupAssembler(sink);
  let expected = reader.first ?? reader.positions[0];
  for (const position of reader.positions) {
    if (expected !== undefined && position > expected)
      groups.fault(
        expected,
        'damaged',
        position === expected + 1 ? 'it is missing' : `all to ${position - 1} are missing`,
      );
    expected = position + 1;
    let bytes: Uint8Array | undefined;
    try {
      bytes = reader.read(position);
    } catch (error) {
      groups.fault(position, 'damaged', (error as Error).message);
      continue;
    }
    if (bytes === undefined) groups.fault(position, 'damaged', 'it is missing');
    else groups.batch(position, bytes);
  }
  groups.end();
}

function surveyOf(reader: LogReader): Survey {
  const survey = new Survey();
  for (const what of reader.faults) survey.fault(0, 'damaged', what);
  readAll(reader, survey);
  return survey;
}

function reportOf({ store, positions }: LogReader, survey: Survey): DoctorReport {
  const { damaged, unfinishedCount: unfinished, groups, bytes, lost } = survey;
  const ok = damaged.length === 0 && lost === 0;
  return { ok, store, batches: positions.length, groups, bytes, jobs: survey.counts(), damaged, unfinished, lost };
}

function newerError({ path }: LogReader, { damaged }: Survey): StoreError {
  const [{ position, what }] = damaged as [{ position: number; what: string }];
  return new StoreError(
    `Batch ${position} of ${path} can't be salvaged: ${what}. Use the flashQ that wrote it, or a newer one.`,
    {
      reason: 'version',
    },
  );
}

/** A second reading: the groups go straight into the new log. */
async function salvage(
  reader: LogReader,
  { queues }: Survey,
  salvageTo: string,
): Promise<{ groups: number; batches: number }> {
  const directory = await openDataDir(salvageTo);
  try {
    const store = await openStore({ name: reader.store, dataDir: directory.path, sync: true });
    const session = await store.open(LOG_PART, 'doctor');
    try {
      const next = Number(await session.load(() => {}));
      const batchBytesMax = Math.min(store.caps.batchBytesMax, BATCH_BYTES_MAX);
      const written = { groups: 0, batches: 0 };
      const survey = new Survey(queues);
      const appends: Promise<unknown>[] = [];
      const group = (position: number, bytes: Uint8Array): void => {
        const kept = survey.group(position, bytes);
        if (kept === undefined) return;
        written.groups++;
        cutGroup(kept, batchBytesMax, Number(session.epoch), next + written.batches, (batch) => {
          written.batches++;
          appends.push(session.append(batch));
        });
      };
      readAll(reader, { group, unfinished: () => {}, fault: () => {} });
      await Promise.all(appends);
      return written;
    } finally {
      await session.close();
    }
  } finally {
    directory.release();
  }
}
