import type { DatasetFormat, ValidateResponse } from '@mlx-training/contract'

export interface Snapshot {
  /** JSONL of the contract's SnapshotRow; named by its hash, never changed once written. */
  path: string
  sha256: string
  format: DatasetFormat
  samples: number
  report: ValidateResponse
}

export interface Datasets {
  /** Checks a file that a client named. ServiceError('invalid_path' | 'not_found' | 'forbidden') for the path;
   *  what is wrong inside the file is told in the report. */
  validate(clientPath: string): Promise<ValidateResponse>
  /** Checks it and writes the good rows as a snapshot. ServiceError('invalid_dataset') with the first errors, rows and
   *  counts when the file isn't valid or isn't of `format`. */
  snapshot(clientPath: string, format: DatasetFormat | undefined): Promise<Snapshot>
}
