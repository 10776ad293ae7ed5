import { ROUTES, ServiceError, type StartRequest, type StartResponse } from '@mlx-training/contract'
import type { FastifyRequest } from 'fastify'
import { clonedRequest, dataOf } from '../jobs/clone.ts'
import type { Job } from '../jobs/port.ts'
import { type StartDeps, startTraining } from '../jobs/start.ts'
import type { Store } from '../store/port.ts'
import { createIdempotency } from './idempotency.ts'
import type { Handlers } from './routes.ts'
import { schemaCompiler, validationError } from './validation.ts'

/** Jobs from a request, and from an earlier job's. `find` throws for an experiment that is not there. */
export function start(
  deps: StartDeps & { store: Pick<Store, 'answer'> },
  find: (name: string) => Promise<Job>,
): Pick<Handlers, 'trainStart' | 'trainClone'> {
  const idempotent = createIdempotency(deps.store)
  const check = startChecker()
  const asStart = (request: unknown): StartRequest => {
    const checked = check(request)
    if (!(checked instanceof ServiceError)) return checked
    const { message, errors } = checked
    throw new ServiceError('unprocessable', `With the changes, ${message}`, {
      ...(errors && { errors: errors.map((error) => ({ ...error, field: `changes.${error.field}` })) }),
    })
  }
  return {
    trainStart: async ({ body, request, reply }) =>
      told(request, await idempotent(request, reply, (once) => startTraining(body, deps, once))),
    trainClone: async ({ params, body, request, reply }) => {
      const answer = await idempotent(request, reply, async (once) => {
        const source = await find(params.name)
        const cloned = asStart(clonedRequest(source, body))
        return await startTraining(cloned, { ...deps, datasets: dataOf(source, deps.datasets) }, once)
      })
      return told(request, answer)
    },
  }
}

/** Checks what was put together from parts as if it had been sent, and fills defaults in. */
export function startChecker(): (request: unknown) => StartRequest | ServiceError {
  const { method, path: url, body: schema } = ROUTES.trainStart
  const validate = schemaCompiler()({ schema, method, url, httpPart: 'body' })
  return (request) =>
    validate(request) ? (request as StartRequest) : validationError(validate.errors ?? [], 'changed request')
}

/** The line by which a request and the job that it led to find each other. */
function told({ log }: FastifyRequest, answer: StartResponse): StartResponse {
  log.info({ job: answer.experiment_name, job_id: answer.job_id }, 'job accepted')
  return answer
}
