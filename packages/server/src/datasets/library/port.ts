import type {
  CleanRequest,
  CleanResponse,
  Dataset,
  DatasetsResponse,
  DeletedDataset,
  RowsResponse,
  SplitRequest,
  SplitResponse,
  UploadResponse,
} from '@mlx-training/contract'
import type { DatasetFile, ReadOptions } from '../port.ts'

/** A file on its way in, complete on the disk and not yet a data set. */
export interface Received {
  /** A folder of its own, which becomes the data set's or is removed. */
  folder: string
  sha256: string
  bytes: number
}

export interface Upload {
  /** Shown to people. */
  name: string
  /** Its endings say what the file is packed in. */
  fileName: string
  reading?: ReadOptions
}

/** Uploaded data sets. Ids that aren't there: ServiceError('not_found'). */
export interface Library {
  /** Streams to the disk. `expected`: bytes, where they are known before. ServiceErrors: payload_too_large,
   *  insufficient_storage; whatever the stream fails with. Nothing is left behind then. */
  receive(bytes: AsyncIterable<Buffer>, expected?: number): Promise<Received>
  /** Checks what was received and makes a data set of it, a valid one or not; the same bytes again are the one that is
   *  there. Takes `received` whatever happens. */
  add(received: Received, upload: Upload): Promise<UploadResponse>
  discard(received: Received): Promise<void>
  list(limit: number, after?: string): Promise<DatasetsResponse>
  get(id: string): Promise<Dataset>
  /** The file as it was uploaded. The caller closes it. */
  open(id: string): Promise<DatasetFile & { displayName: string; bytes: number }>
  rows(id: string, page: { offset: number; limit: number; issues: boolean }): Promise<RowsResponse>
  /** ServiceError('conflict') while a job that uses it has not ended. Experiments keep their copies. */
  remove(id: string): Promise<DeletedDataset>
  /** Two data sets, by a hash of what each row says. ServiceError('invalid_dataset') for one that is not valid; the signal's
   *  reason, and then nothing is left behind, as in the next. */
  split(id: string, request: SplitRequest, signal?: AbortSignal): Promise<SplitResponse>
  /** Another data set with named repairs. ServiceError('invalid_parameters') when nothing would be left of it. */
  clean(id: string, request: CleanRequest, signal?: AbortSignal): Promise<CleanResponse>
  /** Removes what a killed server left half-done. At start, before anything is uploaded. */
  sweep(): Promise<void>
}
