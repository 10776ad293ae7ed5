import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Library } from '../datasets/library/port.ts'
import { createSupervision, type SupervisionDeps } from '../jobs/supervision.ts'
import { clientSignal } from './client-signal.ts'
import type { Handlers } from './routes.ts'
import { readUpload } from './upload.ts'

type DatasetRoutes =
  | 'datasetsValidate'
  | 'datasetsPreview'
  | 'datasetsUpload'
  | 'datasetsList'
  | 'datasetsGet'
  | 'datasetsRows'
  | 'datasetsContent'
  | 'datasetsDelete'
  | 'datasetsSplit'
  | 'datasetsClean'

export function datasets({
  library,
  closing,
  ...deps
}: SupervisionDeps & { library: Library; closing: AbortSignal }): Pick<Handlers, DatasetRoutes> {
  const supervision = createSupervision(deps)
  return {
    datasetsValidate: async ({ body, reply }) => {
      const client = clientSignal(reply, closing)
      return await supervision.validate(body, client.signal).finally(client.release)
    },
    datasetsPreview: async ({ body, reply }) => {
      const client = clientSignal(reply, closing)
      return await supervision.preview(body, client.signal).finally(client.release)
    },
    datasetsUpload: async ({ query, request }) => {
      const { received, upload } = await readUpload(request, query, library)
      return await library.add(received, upload)
    },
    datasetsList: ({ query }) => library.list(query.limit, query.after),
    datasetsGet: ({ params }) => library.get(params.id),
    datasetsRows: ({ params, query }) => library.rows(params.id, query),
    datasetsContent: async ({ params, request, reply }) => await sendContent(params.id, library, request, reply),
    datasetsDelete: ({ params }) => library.remove(params.id),
    datasetsSplit: async ({ params, body, reply }) => {
      const client = clientSignal(reply, closing)
      return await library.split(params.id, body, client.signal).finally(client.release)
    },
    datasetsClean: async ({ params, body, reply }) => {
      const client = clientSignal(reply, closing)
      return await library.clean(params.id, body, client.signal).finally(client.release)
    },
  }
}

/** The file as it was uploaded. */
export async function sendContent(
  id: string,
  library: Library,
  { method }: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { handle, displayName, bytes } = await library.open(id)
  reply.header('content-length', bytes)
  reply.header('content-disposition', disposition(displayName))
  if (method !== 'HEAD') return reply.send(handle.createReadStream())
  await handle.close()
  return reply.send(Readable.from([]))
}

/** RFC 6266: an ASCII name for old clients, the name itself for the others. */
export function disposition(name: string): string {
  const ascii = name.replaceAll(/[^\x20-\x7e]|["\\]/g, '_')
  const encoded = encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16)}`,
  )
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`
}
