# diffseglung in a container: CT in, label map out. Nothing is fetched at run time.
#
#   docker build -t diffseglung .
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" diffseglung segment -i ct.nii.gz -o out
#
# With a GPU: docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t diffseglung:gpu .
#             docker run --gpus all ...
ARG PYTHON_VERSION=3.11.14

FROM python:${PYTHON_VERSION}-slim-bookworm AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/diffseglung
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY diffseglung ./diffseglung
RUN /opt/diffseglung/bin/pip install --extra-index-url "${TORCH_INDEX}" -c constraints.txt ".[dicom,cohort]"

FROM python:${PYTHON_VERSION}-slim-bookworm
LABEL org.opencontainers.image.title="DiffSegLung" \
      org.opencontainers.image.description="Label-free lung pathology maps from chest CT. Research use only; not a medical device." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/diffseglung /opt/diffseglung
ENV PATH=/opt/diffseglung/bin:$PATH PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib HOME=/tmp
RUN useradd --no-create-home --uid 10001 diffseglung
USER diffseglung
WORKDIR /data
ENTRYPOINT ["diffseglung"]
CMD ["--help"]
