import type { FileHandle } from 'node:fs/promises'
import type { DatasetFormat, DatasetReading, Leakage, ValidateResponse } from '@mlx-training/contract'

/** A file opened for reading, and the name that says what it is packed in. Whoever opened it closes it. */
export interface DatasetFile {
  handle: FileHandle
  name: string
  /** As it was uploaded to be read; what a request asks for comes first. */
  reading?: ReadOptions | undefined
}

/** How a file is to be read; what is left out is detected, or has its usual name. */
export type ReadOptions = { [Name in keyof DatasetReading]?: DatasetReading[Name] | undefined }

/** Once the signal aborts the work ends, and its reason is thrown. */
export interface Cancellable {
  signal?: AbortSignal | undefined
}

export interface Snapshot {
  /** JSONL of the contract's SnapshotRow; named by its hash, never changed once written. */
  path: string
  sha256: string
  format: DatasetFormat
  samples: number
  report: ValidateResponse
  /** The uploaded data set that it was made of; null for a path. */
  datasetId: string | null
  /** What it has in common with the data that it is held out of; null when it is not. */
  leakage: Leakage | null
}

/** Rows of a file that may have errors. */
export interface Picked extends Pick<Snapshot, 'path' | 'sha256' | 'format'> {
  /** What is wrong with those that have errors, by their numbers. */
  problems: Map<number, string>
}

/** Wherever a path is asked for, the id of an uploaded data set may be given as well. */
export interface Datasets {
  /** Checks a file that a client named. ServiceError('invalid_path' | 'not_found' | 'forbidden') for the path;
   *  what is wrong inside the file is told in the report. */
  validate(
    source: string,
    options?: ReadOptions & Cancellable & { validation?: string | undefined },
  ): Promise<ValidateResponse>
  /** `trainedOn`: the data to train on, of which this is held out.
   *  Checks it and writes the good rows as a snapshot. ServiceError('invalid_dataset') with the first errors, rows and
   *  counts when the file isn't valid or isn't of `format`. */
  snapshot(
    source: string,
    format: DatasetFormat | undefined,
    options?: Omit<ReadOptions, 'format'> & Cancellable & { trainedOn?: string | undefined },
  ): Promise<Snapshot>
  /** Reads the whole file, and writes those of the rows that are good as a snapshot. ServiceError('invalid_dataset') as for a
   *  snapshot when the file as a whole has no format, or another one. */
  pick(source: string, samples: number[], options?: ReadOptions & Cancellable): Promise<Picked>
}
