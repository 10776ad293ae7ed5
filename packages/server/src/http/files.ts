/** /v1/files: the uploaded data sets, and the results of jobs, as OpenAI's files. */
import { Readable } from 'node:stream'
import { type DatasetSummary, type OpenAIFile, ServiceError } from '@mlx-training/contract'
import type { Library } from '../datasets/library/port.ts'
import type { EventLog } from '../events/port.ts'
import type { Job, JobService } from '../jobs/port.ts'
import { fileOf, noFile, resultsFile, resultsName } from '../openai/fine-tuning/files.ts'
import { datasetIdOf, fileId, jobOfResults, resultsId } from '../openai/fine-tuning/ids.ts'
import { hasResults } from '../openai/fine-tuning/job.ts'
import { pageOf } from '../openai/fine-tuning/page.ts'
import { createResults } from '../openai/fine-tuning/results.ts'
import { disposition, sendContent } from './datasets.ts'
import type { Handlers } from './routes.ts'
import { readFileForm } from './upload.ts'

interface Deps {
  library: Library
  jobs: JobService
  events: EventLog
}

type FileRoutes = 'openaiFileUpload' | 'openaiFiles' | 'openaiFile' | 'openaiFileContent' | 'openaiFileDelete'
/** Either a data set or a job's results, and when it came to be. */
type Listed = { id: string; at: string } & ({ dataset: DatasetSummary } | { job: Job })

/** The library's own largest page. */
const PAGE = 200

export function files({ library, jobs, events }: Deps): Pick<Handlers, FileRoutes> {
  const results = createResults(events)

  async function uploaded(): Promise<Listed[]> {
    const found: Listed[] = []
    for (let after: string | undefined; ; ) {
      const { datasets, next } = await library.list(PAGE, after)
      found.push(...datasets.map((dataset) => ({ id: fileId(dataset.id), at: dataset.created_at, dataset })))
      if (next === null) return found
      after = next
    }
  }

  const ofJobs = async (): Promise<Listed[]> =>
    (await jobs.list())
      .filter(hasResults)
      .map((job) => ({ id: resultsId(job.id), at: job.completedAt ?? job.createdAt, job }))

  const told = async (listed: Listed): Promise<OpenAIFile> => {
    if ('job' in listed) return resultsFile(listed.job, await results.bytes(listed.job))
    const { dataset } = listed
    return fileOf(dataset, dataset.valid ? [] : (await library.get(dataset.id)).report.errors)
  }

  const jobOf = async (id: string): Promise<Job> => {
    const job = await jobs.byId(jobOfResults(id) ?? '')
    if (!job || !hasResults(job)) throw noFile(id)
    return job
  }

  /** What the library does with the data set of a file. */
  const withDataset = async <T>(id: string, work: (datasetId: string) => Promise<T>): Promise<T> => {
    const datasetId = datasetIdOf(id)
    if (datasetId === null) throw noFile(id)
    return await work(datasetId).catch((error) => {
      throw error instanceof ServiceError && error.code === 'not_found' ? noFile(id) : error
    })
  }

  return {
    openaiFileUpload: async ({ request }) => {
      const { received, upload } = await readFileForm(request, library)
      const dataset = await library.add(received, upload)
      return fileOf(dataset, dataset.report.errors)
    },

    openaiFiles: async ({ query: { purpose, order, after, limit } }) => {
      const found = [
        ...(purpose === undefined || purpose === 'fine-tune' ? await uploaded() : []),
        ...(purpose === undefined || purpose === 'fine-tune-results' ? await ofJobs() : []),
      ]
      // Stable, so that data sets of the same moment stay in the order in which they came.
      found.sort((a, b) => Date.parse(b.at) - Date.parse(a.at))
      const { data, has_more } = pageOf(order === 'asc' ? found.reverse() : found, ({ id }) => id, { after, limit })
      const page: OpenAIFile[] = []
      for (const listed of data) page.push(await told(listed))
      return {
        object: 'list',
        data: page,
        first_id: page[0]?.id ?? null,
        last_id: page.at(-1)?.id ?? null,
        has_more,
      }
    },

    openaiFile: async ({ params: { id } }) => {
      if (jobOfResults(id) !== null) {
        const job = await jobOf(id)
        return resultsFile(job, await results.bytes(job))
      }
      const dataset = await withDataset(id, (datasetId) => library.get(datasetId))
      return fileOf(dataset, dataset.report.errors)
    },

    openaiFileContent: async ({ params: { id }, request, reply }) => {
      if (jobOfResults(id) === null)
        return await withDataset(id, (datasetId) => sendContent(datasetId, library, request, reply))
      const job = await jobOf(id)
      const bytes = Buffer.from(await results.csv(job))
      reply.type('text/csv; charset=utf-8').header('content-length', bytes.length)
      reply.header('content-disposition', disposition(resultsName(job)))
      return reply.send(request.method === 'HEAD' ? Readable.from([]) : bytes)
    },

    openaiFileDelete: async ({ params: { id } }) => {
      if (jobOfResults(id) !== null) {
        const { name } = await jobOf(id)
        throw kept(id, `${id} goes with its job: DELETE /train/${name}`)
      }
      // OpenAI's SDKs would send a 409 again.
      await withDataset(id, (datasetId) => library.remove(datasetId)).catch((error) => {
        throw error instanceof ServiceError && error.code === 'conflict' ? kept(id, error.message) : error
      })
      return { id, object: 'file', deleted: true }
    },
  }
}

const kept = (id: string, message: string) =>
  new ServiceError('invalid_parameters', message, { errors: [{ field: 'id', message, given: id }] })
