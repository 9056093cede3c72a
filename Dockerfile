# Reprise with its environment, for processors and for NVIDIA GPUs: the wheel of torch that pip takes on Linux has both.
#
#   docker build --tag reprise .
#   docker run --rm -it reprise                        what there is to do
#   docker run --rm -it reprise reprise try perceptron
#   docker run --rm -it --gpus all --shm-size 2g --volume "$PWD/results:/reprise/results" reprise make repro EXPERIMENTS=gan
FROM python:3.11-slim AS system
RUN apt-get update \
 && apt-get install --yes --no-install-recommends git make chromium \
 && rm -rf /var/lib/apt/lists/*

FROM system AS reprise
WORKDIR /reprise
COPY . .
RUN make setup
ENV PATH=/reprise/.venv/bin:$PATH WANDB_MODE=offline
CMD ["reprise"]
