import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export const COMMIT = '7ae557604adf67be50417f59c2c2f167def9a775'
export const TOKEN = 'hf_reader'

export interface Repository {
  files: Record<string, Buffer | string>
  commit?: string
  access?: 'public' | 'gated' | 'private'
  /** Sizes that the tree tells instead of the true ones. */
  sizes?: Record<string, number>
  /** Whether the Link header to further pages names another host, as a mirror's may. */
  pagesElsewhere?: boolean
}

/** What the storage host does to the next request for bytes, once each. */
export type Fault =
  | { kind: 'break'; after: number }
  | { kind: 'status'; status: number }
  | { kind: 'ignore-range' }
  | { kind: 'corrupt' }
  /** Sends this many bytes, then nothing until `release` is called. */
  | { kind: 'pause'; after: number; release: Promise<void> }

interface Recorded {
  method: string
  path: string
  range: string | undefined
  authorization: string | undefined
}

/**
 * Answers as huggingface.co does: /api/models/…/revision, …/tree in pages with a Link header, /resolve with ETag and
 * X-Repo-Commit, LFS files by a redirect to another host that refuses the hub's credentials.
 */
export class HubServer {
  readonly repositories = new Map<string, Repository>()
  readonly faults: Fault[] = []
  readonly requests: Recorded[] = []
  /** Requests that reached the storage host. */
  readonly stored: Recorded[] = []
  #hub!: Server
  #storage!: Server

  static async start(): Promise<HubServer> {
    const server = new HubServer()
    server.#hub = await listen((request, response) => server.#answer(request, response))
    server.#storage = await listen((request, response) => server.#store(request, response))
    return server
  }

  get url(): string {
    return urlOf(this.#hub)
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#storage]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  /** Paths of files that were asked for, in order. */
  fetched(): string[] {
    return this.requests.flatMap(({ path }) => /\/resolve\/[^/]+\/([^?]+)/.exec(path)?.[1] ?? [])
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const { pathname, searchParams } = new URL(request.url ?? '/', this.url)
    this.requests.push(record(request))
    const [, repo = '', verb = '', revision = '', file] =
      /^\/(?:api\/models\/)?([^/]+\/[^/]+)\/(revision|tree|resolve)\/([^/]+)(?:\/(.*))?$/.exec(pathname) ?? []
    const found = this.repositories.get(repo)
    const known = request.headers.authorization === `Bearer ${TOKEN}`
    if (!found || (found.access === 'private' && !known))
      return known
        ? refuse(response, 404, 'RepoNotFound', 'Repository not found')
        : refuse(response, 401, 'RepoNotFound', 'Invalid username or password.')
    const commit = found.commit ?? COMMIT
    if (![commit, 'main', 'v1'].includes(decodeURIComponent(revision)))
      return refuse(response, 404, 'RevisionNotFound', `Invalid rev id: ${revision}`)

    if (verb === 'revision')
      return json(response, {
        _id: '621ffdc036468d709f17434d',
        id: repo,
        private: found.access === 'private',
        gated: found.access === 'gated' ? 'auto' : false,
        downloads: 1,
        likes: 0,
        lastModified: '2025-01-01T00:00:00.000Z',
        sha: commit,
        siblings: Object.keys(found.files).map((rfilename) => ({ rfilename })),
      })
    if (verb === 'tree') return this.#tree(found, repo, commit, Number(searchParams.get('cursor') ?? 0), response)

    if (found.access === 'gated' && !known)
      return refuse(
        response,
        request.headers.authorization ? 403 : 401,
        'GatedRepo',
        `Access to model ${repo} is restricted.`,
      )
    const content = found.files[decodeURIComponent(file ?? '')]
    if (content === undefined) return refuse(response, 404, 'EntryNotFound', 'Entry not found')
    const bytes = Buffer.from(content)
    response.setHeader('x-repo-commit', commit)
    if (isLfs(file ?? '')) {
      response.writeHead(302, {
        location: `${urlOf(this.#storage)}/${repo}/${file}`,
        'x-linked-etag': `"${sha256(bytes)}"`,
        'x-linked-size': bytes.length,
      })
      return response.end()
    }
    return response.writeHead(200, { etag: `"${gitHash(bytes)}"`, 'content-length': bytes.length }).end(bytes)
  }

  /** Three entries a page, so that the Link header is followed. */
  #tree(found: Repository, repo: string, commit: string, cursor: number, response: ServerResponse): unknown {
    const entries = Object.entries(found.files).map(([path, content]) => {
      const bytes = Buffer.from(content)
      return path.includes('/')
        ? { type: 'directory', oid: gitHash(bytes), size: 0, path: path.split('/')[0] }
        : {
            type: 'file',
            oid: gitHash(bytes),
            size: found.sizes?.[path] ?? bytes.length,
            path,
            ...(isLfs(path) && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 } }),
          }
    })
    const next = cursor + 3
    if (next < entries.length)
      response.setHeader(
        'link',
        `<${found.pagesElsewhere ? urlOf(this.#storage) : this.url}/api/models/${repo}/tree/${commit}?cursor=${next}>; rel="next"`,
      )
    return json(response, entries.slice(cursor, next))
  }

  async #store(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    this.stored.push(record(request))
    if (request.headers.authorization)
      return refuse(response, 400, 'InvalidArgument', 'Only one auth mechanism allowed')
    if (request.url?.startsWith('/api/')) return this.#answer(request, response)
    const [, org, name, file = ''] = (request.url ?? '').split('/')
    let bytes = Buffer.from(this.repositories.get(`${org}/${name}`)?.files[file] ?? '')
    const fault = this.faults.shift()
    if (fault?.kind === 'status') return refuse(response, fault.status, 'Error', 'storage is unwell')
    if (fault?.kind === 'corrupt') {
      bytes = Buffer.from(bytes)
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 0xff, bytes.length - 1)
    }
    const start =
      fault?.kind === 'ignore-range' ? 0 : Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(start ? 206 : 200, {
      'content-length': bytes.length - start,
      'accept-ranges': 'bytes',
      ...(start && { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
    })
    if (fault?.kind === 'break' || fault?.kind === 'pause') {
      await new Promise((resolve) => response.write(bytes.subarray(start, start + fault.after), resolve))
      if (fault.kind === 'break') return response.destroy()
      await fault.release
      return response.end(bytes.subarray(start + fault.after))
    }
    return response.end(bytes.subarray(start))
  }
}

/** A safetensors file with one float32 tensor: u64 header length, JSON header, data. */
export function safetensors(floats: number): Buffer {
  const header = Buffer.from(
    JSON.stringify({ weight: { dtype: 'F32', shape: [floats], data_offsets: [0, floats * 4] } }),
  )
  const data = Buffer.alloc(floats * 4)
  for (let i = 0; i < floats; i++) data.writeFloatLE(Math.sin(i), i * 4)
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  return Buffer.concat([length, header, data])
}

export const modelFiles = (floats = 1000): Record<string, Buffer | string> => ({
  '.gitattributes': '*.safetensors filter=lfs',
  'README.md': '# A model',
  'config.json': JSON.stringify({ model_type: 'llama', quantization: { group_size: 64, bits: 4 } }),
  'model.safetensors': safetensors(floats),
  'modeling_evil.py': 'import os',
  'pytorch_model.bin': Buffer.alloc(64, 1),
  'tokenizer.json': JSON.stringify({ version: '1.0', model: { type: 'BPE', vocab: {}, merges: [] } }),
  'tokenizer_config.json': JSON.stringify({ eos_token: '</s>' }),
  'onnx/model.onnx': 'onnx',
})

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')
export const gitHash = (bytes: Buffer): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex')

const isLfs = (file: string): boolean => /\.(safetensors|bin)$/.test(file)

const urlOf = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`

const record = ({ method = '', url = '', headers }: IncomingMessage): Recorded => ({
  method,
  path: url,
  range: headers.range,
  authorization: headers.authorization,
})

const json = (response: ServerResponse, body: unknown) =>
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))

const refuse = (response: ServerResponse, status: number, code: string, error: string) =>
  response
    .writeHead(status, { 'content-type': 'application/json', 'x-error-code': code })
    .end(JSON.stringify({ error }))

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => unknown): Promise<Server> {
  const server = createServer(handler)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return server
}
