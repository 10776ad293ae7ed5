import type { ErrorBody, RouteName } from '@mlx-training/contract'

/** The API reference's own examples, answers with what the service tells beside them. A test checks them with the schemas. */
export const EXAMPLES: { [N in RouteName]?: { body?: object; response?: object } } = {
  health: {
    response: {
      status: 'healthy',
      version: '1.0.0',
      service: 'mlx-distributed-training',
      features: {
        lora: true,
        qlora: true,
        dataset_formats: ['alpaca', 'sharegpt'],
        providers: ['openai', 'anthropic', 'together', 'ollama', 'local_mlx'],
        distributed: false,
      },
      active_jobs: 2,
      timestamp: '2024-01-15T10:30:00Z',
      queued_jobs: 0,
      engine: {
        state: 'ready',
        reason: null,
        device: 'metal: Apple M3 Max',
        backend: 'Metal',
        dtype: 'bfloat16',
        gflops: 12800,
        mlx_version: '0.32.4',
        mlx_lm_version: '0.32.2',
      },
    },
  },
  trainStart: {
    body: {
      experiment_name: 'my_lora_experiment',
      model_name: 'mlx-community/Qwen2.5-1.5B-4bit',
      epochs: 3,
      learning_rate: 5e-5,
      lora: {
        use_lora: true,
        lora_r: 8,
        lora_alpha: 16,
        lora_dropout: 0.05,
        lora_target_modules: ['q_proj', 'v_proj', 'k_proj', 'o_proj'],
        use_qlora: false,
      },
      dataset: {
        dataset_path: '/path/to/dataset.json',
        dataset_format: 'alpaca',
        batch_size: 4,
        max_seq_length: 2048,
        shuffle: true,
      },
      output_dir: './outputs/my_model',
    },
    response: {
      job_id: 'job_12345',
      experiment_name: 'my_lora_experiment',
      status: 'started',
      dataset_info: { format: 'alpaca', total_samples: 1000, validation_warnings: [] },
      lora_enabled: true,
      estimated_time: 'about 2 hours',
      estimated_seconds: 7240,
      queue_position: 0,
      output_dir: '/home/me/outputs/my_model',
    },
  },
  trainStatus: {
    response: {
      experiment_name: 'my_lora_experiment',
      status: 'running',
      progress: { current_epoch: 2, total_epochs: 3, current_step: 450, total_steps: 750, percentage: 60 },
      metrics: {
        loss: 0.245,
        learning_rate: 3.5e-5,
        tokens_per_second: 1250,
        gpu_memory_used_mb: 4500,
        trained_tokens_per_second: 610,
        grad_norm: 0.82,
        validation_loss: null,
      },
      lora_details: {
        enabled: true,
        rank: 8,
        alpha: 16,
        target_modules: ['q_proj', 'v_proj', 'k_proj', 'o_proj'],
        trainable_params: 2621440,
        total_params: 1544238080,
        trainable_percentage: 0.17,
      },
      dataset_details: { format: 'alpaca', total_samples: 1000, processed_samples: 600 },
      job_id: 'job_12345',
      model: 'mlx-community/Qwen2.5-1.5B-4bit',
      attempt: 1,
      queue_position: null,
      reason: null,
      estimated_seconds_remaining: 2400,
      output_dir: '/home/me/outputs/my_model',
      checkpoints: [
        {
          step: 400,
          model: 'fine-tuned/my_lora_experiment@step-400',
          loss: 0.251,
          created_at: '2024-01-15T10:25:00Z',
        },
      ],
      warnings: [],
      created_at: '2024-01-15T10:00:00Z',
      started_at: '2024-01-15T10:00:01Z',
      completed_at: null,
    },
  },
  trainList: {
    response: {
      training_jobs: [
        {
          experiment_name: 'my_lora_experiment',
          status: 'running',
          started_at: '2024-01-15T10:00:00Z',
          model: 'mlx-community/Qwen2.5-1.5B-4bit',
          lora_enabled: true,
          job_id: 'job_12345',
          percentage: 60,
          loss: 0.245,
        },
        {
          experiment_name: 'baseline_training',
          status: 'completed',
          started_at: '2024-01-15T08:00:00Z',
          completed_at: '2024-01-15T09:30:00Z',
          model: 'mlx-community/Qwen2.5-1.5B-4bit',
          lora_enabled: false,
          job_id: 'job_12344',
          percentage: 100,
          loss: 0.198,
        },
      ],
    },
  },
  trainStop: {
    response: {
      experiment_name: 'my_lora_experiment',
      status: 'stopping',
      message: 'Training job is being stopped',
    },
  },
  datasetsValidate: {
    body: { file_path: '/path/to/dataset.json' },
    response: {
      valid: true,
      format: 'alpaca',
      total_samples: 1000,
      errors: [],
      warnings: ['Sample 45: Very short instruction (2 words)', 'Sample 128: Very long output (1523 words)'],
      sample_preview: {
        instruction: 'What is machine learning?',
        output: 'Machine learning is a branch of artificial intelligence...',
        input: '',
      },
      detection: 'The first row has instruction and output',
      issues: [
        {
          code: 'short_instruction',
          sample: 45,
          line: 232,
          field: 'instruction',
          message: 'Very short instruction (2 words)',
        },
      ],
      counts: { short_instruction: 1, long_output: 1 },
      valid_samples: 1000,
      size_bytes: 482113,
    },
  },
  generate: {
    body: {
      prompt: 'Explain quantum computing in simple terms',
      model: 'fine-tuned/my_lora_experiment',
      max_tokens: 100,
      temperature: 0.7,
      top_p: 0.9,
    },
    response: {
      text: 'Quantum computing is like having a super-powered calculator that can explore multiple solutions at once...',
      model: 'fine-tuned/my_lora_experiment',
      provider: 'LocalMLXProvider',
      tokens_generated: 95,
      generation_time_ms: 450,
      prompt_tokens: 38,
      finish_reason: 'stop',
    },
  },
  providers: {
    response: {
      available_providers: ['openai', 'anthropic', 'together', 'ollama', 'local_mlx'],
      current_provider: {
        active_provider: 'LocalMLXProvider',
        available_providers: [
          { name: 'OpenAIProvider', available: false, reason: 'Set OPENAI_API_KEY' },
          { name: 'AnthropicProvider', available: false, reason: 'Set ANTHROPIC_API_KEY' },
          { name: 'TogetherProvider', available: false, reason: 'Set TOGETHER_API_KEY' },
          { name: 'OllamaProvider', available: false, reason: 'Nothing answers at http://127.0.0.1:11434' },
          { name: 'LocalMLXProvider', available: true },
        ],
      },
    },
  },
}

export const ERROR_EXAMPLE: ErrorBody = { detail: 'Error message', status_code: 400, error_type: 'ValidationError' }
