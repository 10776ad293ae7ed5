import type {
  CleanResponse,
  Dataset,
  DatasetsResponse,
  DeletedDataset,
  PreviewResponse,
  RowsResponse,
  SplitResponse,
  UploadResponse,
  ValidateResponse,
} from '@mlx-training/contract'
import type {
  CleanInput,
  DatasetsInput,
  PreviewInput,
  RowsInput,
  SplitInput,
  UploadInput,
  ValidateInput,
} from '../requests.ts'
import { segment } from '../segment.ts'
import { type Body, MINUTE, type RequestOptions, type Transport } from '../transport.ts'

/** Of what reads all rows of a file, which may have gigabytes. */
const FILE_TIMEOUT = 30 * MINUTE
const UPLOAD_TIMEOUT = 240 * MINUTE

export class Datasets {
  readonly #transport: Transport

  constructor(transport: Transport) {
    this.#transport = transport
  }

  /** A file that the server can read. What is wrong with its rows is in the answer, not an error. */
  validate(request: ValidateInput, options: RequestOptions = {}): Promise<ValidateResponse> {
    return this.#work('/datasets/validate', request, { safe: true, ...options })
  }

  /** What becomes of every token of some rows in training. */
  preview(request: PreviewInput, options: RequestOptions = {}): Promise<PreviewResponse> {
    return this.#work('/datasets/preview', request, { safe: true, ...options })
  }

  /**
   * Sends a file: a Blob or File (in Node `await openAsBlob(path)` of node:fs, which does not read it into memory), bytes,
   * a text, or a stream, which can't be sent again when the connection breaks. The same bytes twice are one data set.
   */
  upload(
    file: Body,
    { columns, tags, ...request }: UploadInput & { name: string },
    options: RequestOptions = {},
  ): Promise<UploadResponse> {
    return this.#transport.json({
      timeout: UPLOAD_TIMEOUT,
      safe: true,
      ...options,
      method: 'POST',
      path: '/datasets',
      query: { ...request, columns: columns && JSON.stringify(columns), tags: tags && JSON.stringify(tags) },
      body: file,
      headers: { 'content-type': 'application/octet-stream', ...options.headers },
    })
  }

  /** A page, newest first; `next` of the answer is `after` of the following one. */
  list(request: DatasetsInput = {}, options: RequestOptions = {}): Promise<DatasetsResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: '/datasets', query: request })
  }

  get(id: string, options: RequestOptions = {}): Promise<Dataset> {
    return this.#transport.json({ ...options, method: 'GET', path: pathOf(id) })
  }

  rows(id: string, request: RowsInput = {}, options: RequestOptions = {}): Promise<RowsResponse> {
    return this.#transport.json({ ...options, method: 'GET', path: `${pathOf(id)}/rows`, query: request })
  }

  /** The file as it was uploaded, not read yet. */
  content(id: string, options: RequestOptions = {}): Promise<Response> {
    return this.#transport.send({ ...options, method: 'GET', path: `${pathOf(id)}/content` })
  }

  delete(id: string, options: RequestOptions = {}): Promise<DeletedDataset> {
    return this.#transport.json({ ...options, method: 'DELETE', path: pathOf(id) })
  }

  /** Two data sets of one, for training and validation, the same ones each time. */
  split(id: string, request: SplitInput, options: RequestOptions = {}): Promise<SplitResponse> {
    return this.#work(`${pathOf(id)}/split`, request, options)
  }

  /** A new data set with repairs, and what each of them did. */
  clean(id: string, request: CleanInput, options: RequestOptions = {}): Promise<CleanResponse> {
    return this.#work(`${pathOf(id)}/clean`, request, options)
  }

  #work<T>(path: string, request: object, options: RequestOptions & { safe?: boolean }): Promise<T> {
    return this.#transport.json({ timeout: FILE_TIMEOUT, ...options, method: 'POST', path, json: request })
  }
}

const pathOf = (id: string) => `/datasets/${segment(id)}`
