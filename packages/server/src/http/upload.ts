/** Routes that take a file: as multipart/form-data, or as the body itself. */
import type { IncomingMessage } from 'node:http'
import multipart from '@fastify/multipart'
import {
  ColumnMap,
  type DatasetReading,
  FileForm,
  NAME_RULE,
  ServiceError,
  TagMap,
  UploadQuery,
} from '@mlx-training/contract'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Static, TObject, TSchema } from 'typebox'
import { Value } from 'typebox/value'
import type { Library, Received, Upload } from '../datasets/library/port.ts'
import { closest } from '../files/closest.ts'

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
  reading(request, library, (receive) =>
    request.isMultipart()
      ? readParts(request, query, UploadQuery, receive, library)
      : readBody(request.raw, query, receive),
  )

/** The same as OpenAI's clients send it: always a form, with what the file is for. */
export const readFileForm = (request: FastifyRequest, library: Uploading): Read =>
  reading(request, library, (receive) => {
    if (!request.isMultipart())
      throw unprocessable('file', 'is required: send multipart/form-data with the file as file, and purpose=fine-tune')
    return readParts(request, {}, FileForm, receive, library)
  })

async function reading(request: FastifyRequest, library: Uploading, read: (receive: Receive) => Read): Read {
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
    for (const [field, value] of Object.entries(fields)) checkField(schema, field, value)
    const { purpose: _, ...checked } = fields as UploadQuery & { purpose?: unknown }
    const upload = { name: checked.name ?? file.name, fileName: file.name, reading: readingOf(checked) }
    return { received: file.received, upload }
  } catch (error) {
    if (file) await library.discard(file.received)
    throw error
  }
}

function checkField({ properties }: TObject, field: string, value: unknown): void {
  const schema = properties[field] as TSchema & { enum?: string[] }
  if (value === undefined || Value.Check(schema, value)) return
  const rule = schema.enum
    ? `${schema.enum.length > 1 ? 'one of ' : ''}${schema.enum.join(', ')}`
    : field === 'name'
      ? NAME_RULE
      : 'JSON of up to 8192 bytes'
  throw unprocessable(field, `must be ${rule}`)
}

/** A mangled part has no name at all, whatever the parser's types say. */
function unknownField(name: string | undefined, known: string[]): ServiceError {
  const field = name ?? ''
  if (field.startsWith('expires_after'))
    return unprocessable('expires_after', 'is not supported: files stay until they are deleted. Leave it out')
  return unprocessable(field, `is not a known field (known are file, ${known.join(', ')})`)
}

/** How the file is to be read. */
function readingOf({ format, columns, tags }: UploadQuery): DatasetReading {
  return {
    ...(format !== undefined && { format }),
    ...(columns !== undefined && { columns: parsed('columns', ColumnMap, columns) }),
    ...(tags !== undefined && { tags: parsed('tags', TagMap, tags) }),
  }
}

/** A field that is JSON. */
function parsed<Schema extends TObject>(field: string, schema: Schema, text: string): Static<Schema> {
  const known = Object.keys(schema.properties).join(', ')
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw unprocessable(field, `must be JSON: an object of ${known}`)
  }
  if (Value.Check(schema, value)) return value
  const unknown = isObject(value) && Object.keys(value).find((key) => !Object.hasOwn(schema.properties, key))
  if (typeof unknown === 'string') {
    const guess = closest(unknown, Object.keys(schema.properties))
    const hint = guess ? `did you mean ${guess}?` : `known are ${known}`
    throw unprocessable(field, `has ${JSON.stringify(unknown.slice(0, 100))}, which is not known (${hint})`)
  }
  const [error] = Value.Errors(schema, value)
  const where = error?.instancePath ? `: ${error.instancePath.slice(1)} ${error.message}` : ''
  throw unprocessable(field, `must be an object of ${known}, each a text of 1 to 200 characters${where}`)
}

const isObject = (value: unknown): value is object =>
  value !== null && typeof value === 'object' && !Array.isArray(value)

/** The last part of a path, without what a name can't hold. */
function safeName(fileName: string | undefined): string {
  const base = (fileName ?? '').split(/[/\\]/).at(-1) ?? ''
  const name = base
    .replaceAll(/\p{Cc}/gu, '')
    .toWellFormed()
    .trim()
  return name === '' ? 'data' : [...name].slice(-200).join('')
}

const unprocessable = (field: string, message: string) =>
  new ServiceError('unprocessable', `${field} ${message}`, { errors: [{ field, message }] })

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
