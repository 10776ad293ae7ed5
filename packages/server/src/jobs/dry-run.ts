/** createDryRun: what a training would take, measured without starting it. */
import { join } from 'node:path'
import { type EstimateRequest, type EstimateResponse, ServiceError } from '@mlx-training/contract'
import type { Config } from '../config.ts'
import type { Engine } from '../engine/port.ts'
import type { Models } from '../models/port.ts'
import { tokenCache, trainCommand } from './command.ts'
import { humanDuration } from './estimate.ts'
import { resolveInitial } from './initial.ts'
import { remember } from './measured.ts'
import type { JobService } from './port.ts'
import { type ResolveDeps, resolveTraining } from './resolve.ts'
import type { Sweeper } from './sweeper.ts'

export interface DryRunDeps extends ResolveDeps {
  config: Pick<Config, 'home'>
  engine: Pick<Engine, 'ready' | 'estimate'>
  models: Pick<Models, 'resolve' | 'ensure'>
  jobs: Pick<JobService, 'counts' | 'get'>
  sweeper: Pick<Sweeper, 'holding'>
}

export type DryRun = (request: EstimateRequest, signal: AbortSignal) => Promise<EstimateResponse>

const BESIDE_A_JOB =
  'A training job is at work as well: speed and free memory are what it leaves, so alone it would be faster'

/**
 * One at a time, so that they measure the machine and not each other. ServiceErrors: those of resolving and of having the
 * model; unavailable while another one is at work; the signal's reason once that aborts. Memory that runs out is an answer.
 */
export function createDryRun({ config, engine, datasets, models, jobs, sweeper }: DryRunDeps): DryRun {
  let busy = false
  return (request, signal) => sweeper.holding(() => dryRun(request, signal))

  async function dryRun(request: EstimateRequest, signal: AbortSignal): Promise<EstimateResponse> {
    const { plan, dataset } = await resolveTraining(request, { engine, datasets, models })
    await resolveInitial(request, plan, jobs)
    if (busy)
      throw new ServiceError(
        'unavailable',
        'Another estimate is being made, and they would disturb each other: ask again when it is done',
        {
          retryAfter: 30,
        },
      )
    busy = true
    try {
      const modelPath = await models.ensure(plan.model, { signal })
      const command = trainCommand(
        {
          id: 'estimate',
          attempt: 1,
          name: 'estimate',
          request: { overwrite: false, priority: 0, ...request, experiment_name: 'estimate' },
          // The engine writes nothing there.
          plan: { ...plan, outputDir: join(config.home, 'runs', 'estimate', 'output') },
          progress: { prepared: null, memoryLevel: 0 },
        },
        modelPath,
        tokenCache(config.home),
      )
      const beside = (await jobs.counts()).active > 0
      const { estimated, warnings, ranOut } = await engine.estimate(command, { signal })
      if (estimated.measured_steps > 0 && !beside) await remember(config.home, request, plan, estimated)
      const { type: _, seconds, fits, advice, ...rest } = estimated
      return {
        estimated_time: humanDuration(seconds),
        estimated_seconds: seconds,
        fits: fits && ranOut === null,
        advice: ranOut === null ? advice : [ranOut, ...advice],
        ...rest,
        warnings: [...dataset.report.warnings, ...warnings, ...(beside ? [BESIDE_A_JOB] : [])],
      }
    } finally {
      busy = false
    }
  }
}
