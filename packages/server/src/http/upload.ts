/** Routes that take a file: as multipart/form-data, or as the body itself. */
import type { IncomingMessage } from 'node:http'
import multipart from '@fastify/multipart'
import { FileForm, ServiceError, UploadQuery } from '@mlx-training/contract'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Library, Received, Upload } from '../datasets/library/port.ts'
import { checkField, readingOf, safeName, unknownField, unprocessable } from './upload-fields.ts'

/** Boundaries, headers and fields around the file. */
const ENVELOPE_BYTES = 64 * 1024
const MAX_FIELD_BYTES = 64 * 1024
/** What a form may have of fields beside the file, so that one too many is told by its name. */
const MAX_FIELDS = 8
/** A client that sends nothing for that long is gone, or wants to hold on to the connection. */
const IDLE_MS = 60_000
/** What a refused client still sends is read for that long, so that it gets to see the answer. */
const LINGER_MS = 5000

/** Lets bodies through unread. On an instance of its own: everywhere else bodies are JSON. */
export async function acceptUploads(app: FastifyInstance): Promise<void> {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
  await app.register(multipart, {
    limits: { files: 1, fields: MAX_FIELDS, fieldSize: MAX_FIELD_BYTES, fileSize: Number.POSITIVE_INFINITY },
  })
}

type Uploading = Pick<Library, 'receive' | 'discard'>
type Read = Promise<{ received: Received; upload: Upload }>

/** Puts the file of the request on the disk. ServiceErrors: what is wrong with the request, and those of `receive`. */
export const readUpload = (request: FastifyRequest, query: UploadQuery, library: Uploading): Read =>
  uploaded(request, library, (receive) =>
    request.isMultipart()
      ? readParts(request, query, UploadQuery, receive, library)
      : readBody(request.raw, query, receive),
  )

/** The same as OpenAI's clients send it: always a form, with what the file is for. */
export const readFileForm = (request: FastifyRequest, library: Uploading): Read =>
  uploaded(request, library, (receive) => {
    if (!request.isMultipart())
      throw unprocessable('file', 'is required: send multipart/form-data with the file as file, and purpose=fine-tune')
    return readParts(request, {}, FileForm, receive, library)
  })

async function uploaded(request: FastifyRequest, library: Uploading, read: (receive: Receive) => Read): Read {
  const { raw } = request
  const silence = setTimeout(
    () => raw.destroy(new ServiceError('timeout', `Nothing came for ${IDLE_MS / 1000} s`)),
    IDLE_MS,
  )
  const receive: Receive = (bytes, expected) => library.receive(heard(bytes, silence), expected)
  try {
    return await read(receive)
  } catch (error) {
    throw explained(error)
  } finally {
    clearTimeout(silence)
    if (!raw.readableEnded) linger(raw)
  }
}

type Receive = (bytes: AsyncIterable<Buffer>, expected: number) => Promise<Received>

async function* heard(bytes: AsyncIterable<Buffer>, silence: NodeJS.Timeout): AsyncGenerator<Buffer> {
  for await (const chunk of bytes) {
    silence.refresh()
    yield chunk
  }
}

async function readBody(raw: IncomingMessage, query: UploadQuery, receive: Receive) {
  const { name } = query
  const reading = readingOf(query)
  if (name === undefined)
    throw unprocessable('name', 'is required with the file as the body: POST /datasets?name=data.jsonl')
  const length = Number(raw.headers['content-length'] ?? 0)
  // A request that is destroyed half-read leaves its connection open and deaf: the next one on it would hang.
  const bytes = raw.iterator({ destroyOnReturn: false })
  return { received: await receive(bytes, length), upload: { name, fileName: name, reading } }
}

async function readParts(
  request: FastifyRequest,
  query: UploadQuery,
  schema: typeof UploadQuery | typeof FileForm,
  receive: Receive,
  library: Pick<Library, 'discard'>,
) {
  const known = Object.keys(schema.properties)
  const length = Number(request.headers['content-length'] ?? 0)
  const fields: Record<string, unknown> = { ...query }
  let file: { received: Received; name: string } | null = null
  try {
    for await (const part of request.parts()) {
      if (part.type === 'field') {
        if (!known.includes(part.fieldname)) throw unknownField(part.fieldname, known)
        fields[part.fieldname] = part.value
        checkField(schema, part.fieldname, part.value)
        continue
      }
      if (part.fieldname !== 'file') {
        throw unprocessable(part.fieldname, 'is not where the file belongs: send it as the field "file"')
      }
      const received = await receive(part.file, Math.max(0, length - ENVELOPE_BYTES))
      file = { received, name: safeName(part.filename) }
    }
    if (!file) throw unprocessable('file', 'is required: the data set itself, e.g. curl -F file=@data.jsonl')
    if (schema === FileForm && fields.purpose === undefined) throw unprocessable('purpose', 'is required: fine-tune')
    const { purpose: _, ...checked } = fields as UploadQuery & { purpose?: unknown }
    const upload = { name: checked.name ?? file.name, fileName: file.name, reading: readingOf(checked) }
    return { received: file.received, upload }
  } catch (error) {
    if (file) await library.discard(file.received)
    throw error
  }
}

/** What the parser of multipart bodies throws, in words. */
function explained(error: unknown): unknown {
  if (error instanceof ServiceError) return error
  const { code, message } = error as NodeJS.ErrnoException
  switch (code) {
    case 'FST_FILES_LIMIT':
      return new ServiceError('invalid_parameters', 'One file at a time: the body has more than one', { cause: error })
    case 'FST_FIELDS_LIMIT':
    case 'FST_PARTS_LIMIT':
      return new ServiceError(
        'invalid_parameters',
        'The body has more fields than a file, what it is for and how it is to be read',
        {
          cause: error,
        },
      )
    case 'FST_PROTO_VIOLATION':
      return new ServiceError('invalid_parameters', 'The body has a field of a name that is refused', { cause: error })
  }
  // The parser's own errors are bare; others are the file system's or the network's, which are known elsewhere.
  if (code !== undefined || (error as Error).constructor !== Error) return error
  return new ServiceError('invalid_parameters', `The multipart/form-data body is malformed: ${message}`, {
    cause: error,
  })
}

function linger(raw: IncomingMessage): void {
  raw.unpipe()
  raw.on('error', () => {})
  raw.resume()
  const timer = setTimeout(() => raw.destroy(), LINGER_MS)
  raw.once('close', () => clearTimeout(timer))
}
