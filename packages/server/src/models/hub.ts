import { setTimeout as sleep } from 'node:timers/promises'
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub'
import { ServiceError } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import { MAX_JSON, UnusableModel } from './folder.ts'

export interface HubFile {
  name: string
  size: number
  /** Name of its blob in the cache, and its checksum: sha256 (64 digits, LFS) or git's blob hash (40). */
  etag: string
}

/** Why the hub didn't give something. `unreachable` may pass with time. */
export class HubProblem extends Error {
  readonly kind: 'missing' | 'gated' | 'unreachable'

  constructor(kind: HubProblem['kind'], message: string, cause?: unknown) {
    super(message, { cause })
    this.kind = kind
  }
}

const METADATA_TIMEOUT = 15_000
/** Without a byte for this long a connection is given up and begun again where it stopped. */
const STALLED = 30_000

/**
 * A Hugging Face-compatible hub. Metadata comes by @huggingface/hub; bytes by fetch, because the library's blobs can't
 * continue a file (they don't notice a server that ignores Range), lose the status of an error, and its cache download
 * tells no progress and checks no hash. The token goes to the hub's own origin alone: fetch drops it at the redirect to a
 * storage host.
 */
export class Hub {
  readonly endpoint: string
  readonly #token: string | null
  readonly #retryMs: number

  constructor(config: Config['hub'], retryMs = 500) {
    this.endpoint = config.endpoint
    this.#token = config.token
    this.#retryMs = retryMs
  }

  /** The commit that a revision names, and the repository's file names. Throws HubProblem. */
  async describe(repo: string, revision: string, signal?: AbortSignal): Promise<{ commit: string; names: string[] }> {
    const info = await this.#metadata(repo, signal, (fetch) =>
      modelInfo({
        name: repo,
        revision,
        hubUrl: this.endpoint,
        additionalFields: ['sha', 'filePaths'],
        fetch,
      }),
    )
    if (!/^[0-9a-f]{40}$/.test(info.sha))
      throw new HubProblem('unreachable', `${this.endpoint} answered without a commit`)
    return { commit: info.sha, names: info.filePaths }
  }

  /** The files at the repository's top level. Throws HubProblem. */
  async files(repo: string, commit: string, signal?: AbortSignal): Promise<HubFile[]> {
    return await this.#metadata(repo, signal, async (fetch) => {
      const files: HubFile[] = []
      for await (const entry of listFiles({
        repo,
        revision: commit,
        hubUrl: this.endpoint,
        fetch,
      })) {
        const etag = entry.lfs?.oid ?? entry.oid ?? ''
        if (entry.type !== 'file' || /[/\\]/.test(entry.path)) continue
        if (!/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(etag))
          throw new HubProblem('unreachable', `${this.endpoint} gave no checksum for ${entry.path}`)
        files.push({ name: entry.path, size: entry.size, etag })
      }
      return files
    })
  }

  /** A small JSON file. Reading it also shows whether a gated repository may be read.
   *  Throws HubProblem, UnusableModel. */
  async json(repo: string, commit: string, name: string, signal?: AbortSignal): Promise<Record<string, unknown>> {
    return await this.#metadata(repo, signal, async (fetch) => {
      const response = await fetch(this.#url(repo, commit, name))
      if (!response.ok) throw this.#refused(response.status, repo, response.headers)
      try {
        const json: unknown = JSON.parse(await textOf(response))
        if (json && typeof json === 'object' && !Array.isArray(json)) return json as Record<string, unknown>
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error
      }
      throw new UnusableModel(`has a ${name} that is not a JSON object`)
    })
  }

  /** Reads a file from a byte on, handing over chunks with their position. A server that doesn't continue starts at 0.
   *  Broken, stalled and failing connections are begun again where they stopped, at most 5 times without a new byte.
   *  Throws HubProblem. */
  async read(
    repo: string,
    commit: string,
    file: HubFile,
    from: number,
    signal: AbortSignal,
    write: (chunk: Uint8Array, position: number) => Promise<void>,
  ): Promise<void> {
    let position = from
    let furthest = from
    await this.#retrying(signal, 5, async (progressed) => {
      const attempt = new AbortController()
      const stalled = setTimeout(() => attempt.abort(new Error('no data')), STALLED)
      try {
        const response = await this.#fetch(
          this.#url(repo, commit, file.name),
          {
            headers: {
              'accept-encoding': 'identity',
              ...(position && { range: `bytes=${position}-` }),
            },
          },
          AbortSignal.any([signal, attempt.signal]),
        )
        if (!response.ok || !response.body) throw this.#refused(response.status, repo, response.headers)
        if (response.status !== 206) position = 0
        for await (const chunk of response.body) {
          await write(chunk, position)
          position += chunk.byteLength
          stalled.refresh()
          if (position > file.size)
            throw new HubProblem('missing', `${file.name} is longer than ${this.endpoint} announced`)
          if (position > furthest) {
            furthest = position
            progressed()
          }
        }
        if (position < file.size) throw new Error(`ended at byte ${position} of ${file.size}`)
      } finally {
        clearTimeout(stalled)
        attempt.abort()
      }
    })
  }

  #url(repo: string, commit: string, name: string): string {
    return `${this.endpoint}/${repo}/resolve/${commit}/${encodeURIComponent(name)}`
  }

  #fetch(input: string | URL | Request, init: RequestInit | undefined, signal: AbortSignal): Promise<Response> {
    const url = new URL(input instanceof Request ? input.url : input)
    const headers = new Headers(init?.headers)
    if (this.#token && url.origin === new URL(this.endpoint).origin)
      headers.set('authorization', `Bearer ${this.#token}`)
    return fetch(url, { ...init, headers, signal })
  }

  #metadata<T>(repo: string, signal: AbortSignal | undefined, ask: (fetcher: typeof fetch) => Promise<T>): Promise<T> {
    return this.#retrying(signal, 2, async () => {
      const timeout = AbortSignal.timeout(METADATA_TIMEOUT)
      try {
        return await ask((input, init) =>
          this.#fetch(input, init, signal ? AbortSignal.any([signal, timeout]) : timeout),
        )
      } catch (error) {
        throw error instanceof HubApiError ? this.#refused(error.statusCode, repo) : error
      }
    })
  }

  async #retrying<T>(
    signal: AbortSignal | undefined,
    attempts: number,
    work: (progressed: () => void) => Promise<T>,
  ): Promise<T> {
    let failures = 0
    const progressed = () => {
      failures = 0
    }
    for (;;) {
      try {
        return await work(progressed)
      } catch (error) {
        signal?.throwIfAborted()
        if (error instanceof ServiceError || error instanceof UnusableModel) throw error
        const problem = this.#problem(error)
        if (problem.kind !== 'unreachable' || ++failures >= attempts) throw problem
        await sleep(this.#retryMs * 2 ** (failures - 1) * (0.75 + Math.random() / 2), undefined, { signal })
      }
    }
  }

  #problem(error: unknown): HubProblem {
    if (error instanceof HubProblem) return error
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    const reason = cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause)
    return new HubProblem('unreachable', `${this.endpoint} could not be reached (${reason})`, error)
  }

  /** The hub answers 401, not 404, to anyone without a token who asks for what may be private. */
  #refused(status: number, repo: string, headers?: Headers): HubProblem {
    if (status === 403 || headers?.get('x-error-code') === 'GatedRepo')
      return new HubProblem(
        'gated',
        `${repo} is gated: accept its terms at ${this.endpoint}/${repo} and set HF_TOKEN to a token of that account`,
      )
    if (status === 401)
      return this.#token
        ? new HubProblem('missing', `${this.endpoint} has no ${repo} that the token in HF_TOKEN may read`)
        : new HubProblem(
            'missing',
            `${this.endpoint} has no ${repo} that everyone may read; if it is private or gated, set HF_TOKEN`,
          )
    if (status === 404) return new HubProblem('missing', `${this.endpoint} has no such repository, revision or file`)
    return new HubProblem('unreachable', `${this.endpoint} answered with status ${status}`)
  }
}

/** Anyone can put a file of any size into a repository of theirs. */
async function textOf(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += chunk.byteLength
    if (bytes > MAX_JSON) throw new UnusableModel(`has a JSON file of more than ${MAX_JSON / 2 ** 20} MiB`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
